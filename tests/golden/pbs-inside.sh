#!/bin/bash
#LOCAL job-name=scalable-20261122T084512Z-ab12cd-a0007
#LOCAL comment=scalable_hpc 20261122T084512Z-ab12cd
#LOCAL nodes=2
#LOCAL cpus=2
#LOCAL output=/scratch/me/runs/20261122T084512Z-ab12cd/logs/a0007.txt
#LOCAL chdir=/home/me/ensemble

# Allocation a0007 of run 20261122T084512Z-ab12cd, written by scalable_hpc and run as it stands.
if [[ ${1:-} != on-node ]]; then # what follows is run again by pbsdsh, on each node
  number=0 host='' before=' '
  while read -r host; do
    if [[ $before != *" $host "* && ,$SCALABLE_HPC_PLACES, == *",$host,"* ]]; then
      pbsdsh -n "$number" -- /bin/bash /scratch/me/runs/20261122T084512Z-ab12cd/scripts/a0007.sh on-node "$number" </dev/null &
    fi
    before+="$host " number=$((number + 1))
  done <"$PBS_NODEFILE"
  trap : TERM # it is the workers' to end by
  while ! wait; do :; done # a signal interrupts the wait
  exit
fi
exec >>/scratch/me/runs/20261122T084512Z-ab12cd/logs/a0007.txt 2>&1 # pbsdsh hands nothing on from other nodes
export SCALABLE_HPC_NODE_NUMBER=$2
set -eo pipefail # not -u: module and environment scripts read variables that are not set

export SLURM_MPI_TYPE=pmix

export TMPDIR=/local/scratch
mkdir -p -- "$TMPDIR"

if ! type module >/dev/null 2>&1; then # a batch shell is no login shell
  for init in "${MODULESHOME:-/usr/share/modules}/init/bash" /etc/profile.d/{modules,lmod,z00_lmod}.sh; do
    # shellcheck source=/dev/null
    if [[ -r $init ]]; then source "$init" && break; fi
  done
fi
module use /projects/crops/modules
module load gcc/12 openmpi

# shellcheck source=/dev/null
source /opt/conda/etc/profile.d/conda.sh
conda activate '/projects/crops/envs/ensemble 7'

# shellcheck source=/dev/null
source /home/me/venv/bin/activate

cd -- /home/me/ensemble
exec python3 -m scalable_hpc.worker \
  --run-dir /scratch/me/runs/20261122T084512Z-ab12cd \
  --allocation a0007 \
  --worker-type gcam \
  --slots 4 \
  --cpus 16 \
  --memory 68719476736 \
  --walltime 14400
