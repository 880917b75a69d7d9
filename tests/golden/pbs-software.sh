#!/bin/bash
#PBS -N scalable-20261122T084512Z-ab12cd-a0007
#PBS -l select=1:ncpus=16:mem=65536mb
#PBS -l walltime=04:00:00
#PBS -j oe
#PBS -o /dev/null
#PBS -r n

# Allocation a0007 of run 20261122T084512Z-ab12cd, written by scalable_hpc and run as it stands.
exec >>/scratch/me/runs/20261122T084512Z-ab12cd/logs/a0007.txt 2>&1 # PBS would deliver it at the end of the job only
ending=/scratch/me/runs/20261122T084512Z-ab12cd/endings/$PBS_JOBID # PBS may keep no history: the script tells its exit code itself
mkdir -p -- "${ending%/*}"
trap 'echo "exit $?" >"$ending"' EXIT
trap : TERM # which PBS sends to every process: the worker ends by it, and then the script
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
python3 -m scalable_hpc.worker \
  --run-dir /scratch/me/runs/20261122T084512Z-ab12cd \
  --allocation a0007 \
  --worker-type gcam \
  --slots 4 \
  --cpus 16 \
  --memory 68719476736 \
  --walltime 14400
