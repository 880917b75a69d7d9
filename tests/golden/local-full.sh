#!/bin/bash
#LOCAL job-name=scalable-20261122T084512Z-ab12cd-a0007
#LOCAL comment=scalable_hpc 20261122T084512Z-ab12cd
#LOCAL nodes=1
#LOCAL cpus=16
#LOCAL memory=68719476736
#LOCAL walltime=14400
#LOCAL signal-lead=120
#LOCAL output=/scratch/me/runs/20261122T084512Z-ab12cd/logs/a0007.txt
#LOCAL chdir=/home/me/ensemble

# Allocation a0007 of run 20261122T084512Z-ab12cd, written by scalable_hpc and run as it stands.
set -eo pipefail # not -u: module and environment scripts read variables that are not set
trap '' USR1 # a warning that comes before the worker listens must not end the job; the worker knows its deadline

export OMP_NUM_THREADS=4
export TITLE='it'"'"'s a "big" run'

if ! type module >/dev/null 2>&1; then # a batch shell is no login shell
  for init in "${MODULESHOME:-/usr/share/modules}/init/bash" /etc/profile.d/{modules,lmod,z00_lmod}.sh; do
    # shellcheck source=/dev/null
    if [[ -r $init ]]; then source "$init" && break; fi
  done
fi
module load gcc/12 cuda

ulimit -c 0
umask 027
mkdir -p /tmp/ensemble

# shellcheck source=/dev/null
source /home/me/ensemble/prepare.sh

cd -- /home/me/ensemble
exec numactl \
  --interleave=all /home/me/venv/bin/python -m scalable_hpc.worker \
  --run-dir /scratch/me/runs/20261122T084512Z-ab12cd \
  --allocation a0007 \
  --worker-type gcam \
  --slots 4 \
  --cpus 16 \
  --memory 68719476736 \
  --walltime 14400
