#!/bin/bash
#SBATCH --job-name=scalable-20261122T084512Z-ab12cd-a0007
#SBATCH --comment="scalable_hpc 20261122T084512Z-ab12cd"
#SBATCH --nodes=5
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=65536M
#SBATCH --time=0-04:00:00
#SBATCH --output=/scratch/me/runs/20261122T084512Z-ab12cd/logs/a0007.txt
#SBATCH --no-requeue
#SBATCH --no-kill

# Allocation a0007 of run 20261122T084512Z-ab12cd, written by scalable_hpc and run as it stands.
set -eo pipefail # not -u: module and environment scripts read variables that are not set

cd -- /home/me/ensemble
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
first='' # of the 2 nodes of each worker
for ((number = 0; number < 4; number += 2)); do first+=${first:+,}${hosts[number]}; done
exec srun --nodelist="$first" --nodes=2 --ntasks=2 --ntasks-per-node=1 \
  --cpus-per-task=16 --kill-on-bad-exit=0 --no-kill \
  /home/me/venv/bin/python -m scalable_hpc.worker \
  --run-dir /scratch/me/runs/20261122T084512Z-ab12cd \
  --allocation a0007 \
  --worker-type gcam \
  --slots 4 \
  --cpus 16 \
  --memory 68719476736 \
  --walltime 14400
