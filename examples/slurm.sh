#!/bin/bash
# Eight workers of one study as a Slurm job array: sbatch examples/slurm.sh STUDY
#
# Start the study once where PostgreSQL is reached (`python -m search.study --storage URL ...`),
# then lend it the cluster. A worker leaves before its time is over and is queued again until the
# study has its total. See docs/clusters.md.
#SBATCH --job-name=cnn-search
#SBATCH --array=1-8
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@60
#SBATCH --open-mode=append
# For a GPU: #SBATCH --gpus-per-task=1, and --device cuda below.

# The database's URL, its password too, comes from a file that only you can read: chmod 600.
SEARCH_STORAGE=$(cat "${SEARCH_STORAGE_FILE:-$HOME/.cnn-search-storage}")
export SEARCH_STORAGE
export SEARCH_RUNS_DIR=${SEARCH_RUNS_DIR:-$PWD/runs} # on a file system that all nodes share

python -m search.worker --study "$1" --threads "${SLURM_CPUS_PER_TASK:-1}" --max-seconds 3300 &
worker=$!
trap 'kill -TERM $worker' TERM # Slurm tells only this shell
wait $worker
code=$?
if [ $code -gt 128 ]; then # the wait was interrupted, or the worker was
    wait $worker
    code=$?
fi
case $code in
0) ;;                                                               # the study is finished
75 | 143) scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}" ;; # go on later
*) exit $code ;;                                                    # it has said why
esac
