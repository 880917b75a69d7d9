#!/bin/bash
#LOCAL job-name=scalable-20261122T084512Z-ab12cd-a0007
#LOCAL comment=scalable_hpc 20261122T084512Z-ab12cd
#LOCAL nodes=1
#LOCAL cpus=16
#LOCAL memory=68719476736
#LOCAL walltime=14400
#LOCAL output=/scratch/me/runs/20261122T084512Z-ab12cd/logs/a0007.txt
#LOCAL chdir=/home/me/ensemble

# Allocation a0007 of run 20261122T084512Z-ab12cd, written by scalable_hpc and run as it stands.
set -eo pipefail # not -u: module and environment scripts read variables that are not set

cd -- /home/me/ensemble
exec /home/me/venv/bin/python -m scalable_hpc.worker \
  --run-dir /scratch/me/runs/20261122T084512Z-ab12cd \
  --allocation a0007 \
  --worker-type gcam \
  --slots 4 \
  --cpus 16 \
  --memory 68719476736 \
  --walltime 14400
