#!/bin/bash
# Eight workers of one study as a Slurm job array: sbatch examples/slurm.sh STUDY
#
# Start the study once where PostgreSQL is reached (`python -m search.study --storage URL ...`),
# then submit this array. Each worker exits before its time limit and is requeued until the study
# has its total. See docs/clusters.md.
#SBATCH --job-name=cnn-search
#SBATCH --array=1-8
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@60
#SBATCH --open-mode=append
# For a GPU: #SBATCH --gpus=1, and --device cuda below.

# The database's URL, its password too, comes from a file that only you can read: chmod 600.
SEARCH_STORAGE=$(cat "${SEARCH_STORAGE_FILE:-$HOME/.cnn-search-storage}") || exit 2
export SEARCH_STORAGE
export SEARCH_RUNS_DIR=${SEARCH_RUNS_DIR:-$PWD/runs} # on a file system that all nodes share
study=${1:?the study is missing: sbatch examples/slurm.sh STUDY}

python -m search.worker --study "$study" --threads "${SLURM_CPUS_PER_TASK:-1}" --max-seconds 3300 &
worker=$!
late=
trap 'told=1; late=143; kill -TERM $worker' USR1 # the time is nearly over
trap 'told=1; late=; kill -TERM $worker' TERM    # scancel
told=1
while [ "$told" ]; do # a signal interrupts the wait
    told=
    wait $worker
    code=$?
done
case $code in
75 | 137 | "$late") scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}" ;; # resume later
*) exit $code ;; # the study is finished, somebody ended it, or the log says what is wrong
esac
