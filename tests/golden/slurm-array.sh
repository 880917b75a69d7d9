#!/bin/bash
#SBATCH --job-name=scalable-20261122T084512Z-ab12cd-a0998+
#SBATCH --comment="scalable_hpc 20261122T084512Z-ab12cd"
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=65536M
#SBATCH --time=0-04:00:00
#SBATCH --array=998-999
#SBATCH --output="/scratch/my 100%%/runs/20261122T084512Z-ab12cd/logs/a0%3a.log"
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --no-kill

# Allocations a0998 to a0999 of run 20261122T084512Z-ab12cd, written by scalable_hpc and run as it stands.
set -eo pipefail # not -u: module and environment scripts read variables that are not set

SCALABLE_HPC_ALLOCATION=a0$(printf %03d "$SLURM_ARRAY_TASK_ID")
export SCALABLE_HPC_ALLOCATION SCALABLE_HPC_JOB_ID="${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"

cd -- /home/me/ensemble
exec srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=16 --kill-on-bad-exit=0 --no-kill \
  /home/me/venv/bin/python -m scalable_hpc.worker \
  --run-dir /scratch/me/runs/20261122T084512Z-ab12cd \
  --worker-type gcam \
  --slots 4 \
  --cpus 16 \
  --memory 68719476736 \
  --walltime 14400
