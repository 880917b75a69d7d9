#!/bin/bash
#PBS -N scalable-20261122T084512Z-ab12cd-a0001
#PBS -l select=1:ncpus=2
#PBS -l walltime=00:30:00
#PBS -l filesystems=flare
#PBS -j oe
#PBS -o /dev/null
#PBS -r n
#PBS -q debug
#PBS -A climate

# Allocation a0001 of run 20261122T084512Z-ab12cd, written by scalable_hpc and run as it stands.
exec >>/home/me/ensemble/.scalable/runs/20261122T084512Z-ab12cd/logs/a0001.log 2>&1 # PBS would deliver it at the end of the job only
ending=/home/me/ensemble/.scalable/runs/20261122T084512Z-ab12cd/endings/$PBS_JOBID # PBS may keep no history: the script tells its exit code itself
mkdir -p -- "${ending%/*}"
trap 'echo "exit $?" >"$ending"' EXIT
trap : TERM # which PBS sends to every process: the worker ends by it, and then the script
set -eo pipefail # not -u: module and environment scripts read variables that are not set

export SCALABLE_HPC_CACHE_DIR=/home/me/ensemble/.scalable/cache
export SCALABLE_HPC_CACHE_DURABILITY=fsync
export SCALABLE_HPC_CACHE_VERIFY=once
export SCALABLE_HPC_STORE_KEY=/home/me/ensemble/.scalable/runs/20261122T084512Z-ab12cd/store.key
export SCALABLE_HPC_PYTHONPATH=''

cd -- /home/me/ensemble
/home/me/venv/bin/python -m scalable_hpc.worker \
  --run-dir /home/me/ensemble/.scalable/runs/20261122T084512Z-ab12cd \
  --allocation a0001 \
  --worker-type model \
  --slots 2 \
  --cpus 2 \
  --memory 536870912 \
  --walltime 1800 \
  --orphan-grace 600.0
