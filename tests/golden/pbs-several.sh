#!/bin/bash
#PBS -N scalable-20261122T084512Z-ab12cd-a0007
#PBS -l select=5:ncpus=16:mem=65536mb
#PBS -l place=scatter
#PBS -l walltime=04:00:00
#PBS -j oe
#PBS -o /dev/null
#PBS -r n

# Allocation a0007 of run 20261122T084512Z-ab12cd, written by scalable_hpc and run as it stands.
exec >>/scratch/me/runs/20261122T084512Z-ab12cd/logs/a0007.txt 2>&1 # PBS would deliver it at the end of the job only
if [[ ${1:-} != on-node ]]; then # what follows is run again by pbsdsh, on each node
ending=/scratch/me/runs/20261122T084512Z-ab12cd/endings/$PBS_JOBID # PBS may keep no history: the script tells its exit code itself
mkdir -p -- "${ending%/*}"
trap 'echo "exit $?" >"$ending"' EXIT
trap : TERM # which PBS sends to every process: the worker ends by it, and then the script
  number=0 host='' before=' ' hosts=() numbers=()
  while read -r host; do
    if [[ $before != *" $host "* ]]; then hosts+=("$host") numbers+=("$number"); fi
    before+="$host " number=$((number + 1))
  done <"$PBS_NODEFILE"
  number=0
  while [[ -n ${hosts[number + 1]:-} ]]; do
    its=$(printf '%s,' "${hosts[@]:number:2}") # the nodes of a worker, which runs on the first
    pbsdsh -n "${numbers[number]}" -- /bin/bash /scratch/me/runs/20261122T084512Z-ab12cd/scripts/a0007.sh on-node "${numbers[number]}" "$its" </dev/null &
    number=$((number + 2))
  done
  while ! wait; do :; done # a signal interrupts the wait
  exit
fi
export SCALABLE_HPC_NODE_NUMBER=$2
export SCALABLE_HPC_HOSTS=${3%,}
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
