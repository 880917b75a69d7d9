#!/bin/bash
#SBATCH --job-name=scalable-driver-002-20261122T084512Z-ab12cd
#SBATCH --comment="scalable_hpc 20261122T084512Z-ab12cd"
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=65536M
#SBATCH --time=0-04:00:00
#SBATCH --output=/scratch/me/runs/20261122T084512Z-ab12cd/logs/a0007.txt
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --dependency=afterany:4711
#SBATCH --partition=standard
#SBATCH --account=0123
#SBATCH --qos=high
#SBATCH --constraint=[rack1|rack2]&ib
#SBATCH --exclusive
#SBATCH --reservation=spring
#SBATCH --licenses=scratch:1,matlab@server:2
#SBATCH --clusters=big
#SBATCH --mail-type=END
#SBATCH --nice=5

# Allocation driver-002 of run 20261122T084512Z-ab12cd, written by scalable_hpc and run as it stands.
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

cd -- /home/me/ensemble
exec /home/me/venv/bin/python -m scalable_hpc.chain /scratch/me/runs/20261122T084512Z-ab12cd 2
