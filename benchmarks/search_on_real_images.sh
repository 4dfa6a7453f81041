#!/usr/bin/env bash
# The searches of docs/results/search-on-real-images.md: TPE and random at equal trials on three data sets.
# About an hour on one core. Stop it when you like: the same command goes on where it stopped.
#   PYTHON=.venv/bin/python DATA=../shared/data bash benchmarks/search_on_real_images.sh
# Runs, studies and prepared data go to the working folder's mlflow.db, studies.db and data/.
set -euo pipefail
python=${PYTHON:-python}
data=${DATA:-../shared/data}
export OMP_NUM_THREADS=1

prepare() { # dataset source folder
    [ -f "data/$3/manifest.json" ] || "$python" -m pipelines.prepare --dataset "$1" --source "$2" --root "$data/$4" --out "data/$3"
}

search() { # folder sampler trials images
    "$python" -m pipelines.search --data "data/$1" --sampler "$2" --trials "$3" --images "$4" --study "$1-$2-0" --seed 0 \
        --nodes 5 --epochs 3 --channels 8 --layers 5 --batch_size 100 --width 128 --learning_rate 0.01 --threads 1
}

prepare isic2019 isic mixed180 isic2019_mixed180
prepare cifar10 cifar cifar10_5k cifar10_5k
prepare imagenette folder imagenette_900 imagenette_900
for sampler in tpe random; do
    search mixed180 "$sampler" 32 600
    search cifar10_5k "$sampler" 20 200
    search imagenette_900 "$sampler" 12 200
done
