#!/usr/bin/env bash
# The robustness studies of docs/results/robustness.md: Fig 3 at reduced scale on CIFAR-10's 5k subset and on synthetic
# phantoms. About 40 minutes on one core. Stop it when you like: the same command goes on where it stopped.
#   PYTHON=.venv/bin/python DATA=../shared/data bash benchmarks/robustness_on_images.sh [cifar10] [phantom]
# Runs, studies and prepared data go to the working folder's mlflow.db, studies.db, outputs/ and data/.
set -euo pipefail
python=${PYTHON:-python}
images=${DATA:-../shared/data}
recipes=$(dirname "$0")/../pipelines/recipes
export OMP_NUM_THREADS=1

study() { # recipe, then keys
    "$python" -m pipelines.robustness --config "$recipes/$1.yaml" --seeds "${SEEDS:-3}" --search.threads 1 \
        --train.threads 1 --evaluate.threads 1 --train.runs 1 "${@:2}"
}

cifar10() {
    [ -f data/cifar10_5k/manifest.json ] || "$python" -m pipelines.prepare --dataset cifar10 --source cifar \
        --root "$images/cifar10_5k" --out data/cifar10_5k --workers 1
    study cifar10 --images 400 --search.data data/cifar10_5k --search.trials 26 --search.epochs 2 --search.channels 4 \
        --search.layers 3 --search.resolution 16 --search.batch_size 100 --search.learning_rate 0.01 \
        --train.epochs 4 --train.warmup 1 --train.layers 3 --train.channels 8 --train.size 16 --train.padding 2 \
        --train.cutout 4 --train.batch_size 64
}

phantom() {
    study phantom --search.trials 26
}

[ $# -gt 0 ] || set -- cifar10 phantom
for one in "$@"; do
    "$one"
done
