#!/bin/bash
#SBATCH --job-name=scalable-20261122T084512Z-ab12cd-a0007
#SBATCH --comment="scalable_hpc 20261122T084512Z-ab12cd"
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=65536M
#SBATCH --time=0-04:00:00
#SBATCH --output=/scratch/me/runs/20261122T084512Z-ab12cd/logs/a0007.txt
#SBATCH --no-requeue
#SBATCH --no-kill
#SBATCH --signal=B:USR1@120
#SBATCH --partition=standard
#SBATCH --account=0123
#SBATCH --qos=high
#SBATCH --constraint=[rack1|rack2]&ib
#SBATCH --gres=gpu:a100:2
#SBATCH --reservation=spring
#SBATCH --licenses=scratch:1,matlab@server:2
#SBATCH --clusters=big
#SBATCH --exclusive
#SBATCH --exclude=node07,node09
#SBATCH --mail-type=END
#SBATCH --nice=5

# Allocation a0007 of run 20261122T084512Z-ab12cd, written by scalable_hpc and run as it stands.
set -eo pipefail # not -u: module and environment scripts read variables that are not set
trap '' USR1 # a warning that comes before the worker listens must not end the job; the worker knows its deadline

export OMP_NUM_THREADS=4
export TITLE='it'"'"'s a "big" run'

export TMPDIR=/local/scratch
mkdir -p -- "$TMPDIR"
srun --nodes=2 --ntasks=2 --ntasks-per-node=1 mkdir -p -- "$TMPDIR"

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
exec srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=16 --kill-on-bad-exit=0 --no-kill \
  numactl \
  --interleave=all podman-hpc run \
  --rm \
  --net=host \
  --gpu \
  '--env=SCALABLE_HPC_*' \
  '--env=SLURM_*' \
  '--env=PBS_*' \
  --env=CUDA_VISIBLE_DEVICES \
  --env=ROCR_VISIBLE_DEVICES \
  --env=ZE_AFFINITY_MASK \
  --env=TMPDIR \
  --env=OMP_NUM_THREADS \
  --env=TITLE \
  --volume=/data/gcam:/gcam/data \
  --volume=/home/me/ensemble:/home/me/ensemble \
  --volume=/scratch/me/cache:/scratch/me/cache \
  --volume=/scratch/me/runs:/scratch/me/runs \
  --volume=/local/scratch:/local/scratch \
  --workdir=/home/me/ensemble ghcr.io/crops/gcam:7 bash -c '. "$0" && exec "$@"' /home/me/ensemble/prepare.sh python3 -m scalable_hpc.worker \
  --run-dir /scratch/me/runs/20261122T084512Z-ab12cd \
  --allocation a0007 \
  --worker-type gcam \
  --slots 4 \
  --cpus 16 \
  --memory 68719476736 \
  --walltime 14400
