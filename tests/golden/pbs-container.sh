#!/bin/bash
#PBS -N scalable-20261122T084512Z-ab12cd-a0007
#PBS -l select=2:ncpus=16:mem=65536mb:ngpus=2
#PBS -l place=scatter:excl
#PBS -l walltime=04:00:00
#PBS -j oe
#PBS -o /dev/null
#PBS -r n
#PBS -q standard
#PBS -A 0123

# Allocation a0007 of run 20261122T084512Z-ab12cd, written by scalable_hpc and run as it stands.
exec >>/scratch/me/runs/20261122T084512Z-ab12cd/logs/a0007.txt 2>&1 # PBS would deliver it at the end of the job only
if [[ ${1:-} != on-node ]]; then # what follows is run again by pbsdsh, on each node
ending=/scratch/me/runs/20261122T084512Z-ab12cd/endings/$PBS_JOBID # PBS may keep no history: the script tells its exit code itself
mkdir -p -- "${ending%/*}"
trap 'echo "exit $?" >"$ending"' EXIT
trap : TERM # which PBS sends to every process: the worker ends by it, and then the script
  number=0 host='' before=' '
  while read -r host; do
    if [[ $before != *" $host "* ]]; then
      pbsdsh -n "$number" -- /bin/bash /scratch/me/runs/20261122T084512Z-ab12cd/scripts/a0007.sh on-node "$number" </dev/null &
    fi
    before+="$host " number=$((number + 1))
  done <"$PBS_NODEFILE"
  while ! wait; do :; done # a signal interrupts the wait
  exit
fi
export SCALABLE_HPC_NODE_NUMBER=$2
set -eo pipefail # not -u: module and environment scripts read variables that are not set

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

cd -- /home/me/ensemble
# shellcheck disable=SC2016 # expanded by the container's shell
exec numactl \
  --interleave=all apptainer exec \
  --nv \
  --bind=/data/gcam:/gcam/data \
  --bind=/home/me/ensemble:/home/me/ensemble \
  --bind=/scratch/me/cache:/scratch/me/cache \
  --bind=/scratch/me/runs:/scratch/me/runs \
  --pwd=/home/me/ensemble '/home/me/images/gcam 7.sif' bash -c '. "$0" && exec "$@"' /home/me/ensemble/prepare.sh python3 -m scalable_hpc.worker \
  --run-dir /scratch/me/runs/20261122T084512Z-ab12cd \
  --allocation a0007 \
  --worker-type gcam \
  --slots 4 \
  --cpus 16 \
  --memory 68719476736 \
  --walltime 14400
