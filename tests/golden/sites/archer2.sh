#!/bin/bash
#SBATCH --job-name=scalable-20261122T084512Z-ab12cd-a0001
#SBATCH --comment="scalable_hpc 20261122T084512Z-ab12cd"
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=2
#SBATCH --time=0-00:30:00
#SBATCH --output=/home/me/ensemble/.scalable/runs/20261122T084512Z-ab12cd/logs/a0001.log
#SBATCH --no-requeue
#SBATCH --partition=standard
#SBATCH --account=t01
#SBATCH --qos=standard

# Allocation a0001 of run 20261122T084512Z-ab12cd, written by scalable_hpc and run as it stands.
set -eo pipefail # not -u: module and environment scripts read variables that are not set

export SCALABLE_HPC_CACHE_DIR=/home/me/ensemble/.scalable/cache
export SCALABLE_HPC_CACHE_DURABILITY=fsync
export SCALABLE_HPC_CACHE_VERIFY=once
export SCALABLE_HPC_STORE_KEY=/home/me/ensemble/.scalable/runs/20261122T084512Z-ab12cd/store.key
export SCALABLE_HPC_PYTHONPATH=''

cd -- /home/me/ensemble
exec /home/me/venv/bin/python -m scalable_hpc.worker \
  --run-dir /home/me/ensemble/.scalable/runs/20261122T084512Z-ab12cd \
  --allocation a0001 \
  --worker-type model \
  --slots 2 \
  --cpus 2 \
  --memory 536870912 \
  --walltime 1800 \
  --orphan-grace 600.0
