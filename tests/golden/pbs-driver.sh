#!/bin/bash
#PBS -N scalable-driver-002-20261122T084512Z-ab12cd
#PBS -l select=1:ncpus=16:mem=65536mb
#PBS -l place=excl
#PBS -l walltime=04:00:00
#PBS -j oe
#PBS -o /dev/null
#PBS -r y
#PBS -W depend=afterany:4711
#PBS -q standard
#PBS -A 0123
#PBS -P climate
#PBS -m abe

# Allocation driver-002 of run 20261122T084512Z-ab12cd, written by scalable_hpc and run as it stands.
exec >>/scratch/me/runs/20261122T084512Z-ab12cd/logs/a0007.txt 2>&1 # PBS would deliver it at the end of the job only
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
