"""Trains the faithfulness model, exports it and the sentence encoder, and prints what the exports lose."""
import argparse
from pathlib import Path

import torch

import embedding
import export
import sets
from batches import tokenizer_of
from fit import Fit
from network import PairClassifier, base_folder


def options():
    parser = argparse.ArgumentParser(prog="models/train/train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the gzip JSONL sets")
    parser.add_argument("--out", type=Path, default=Path("target/train"), help="checkpoints and exported models")
    parser.add_argument("--base", type=Path, help="folder of the base encoder (default: the pinned package's)")
    parser.add_argument("--seconds", type=float, default=4500, help="time box of the training, pauses not counted")
    parser.add_argument("--start", type=Path, help="exported folder whose weights training goes on from")
    parser.add_argument("--rate", type=float, default=3e-4, help="highest learning rate; 1e-4 suits --start")
    parser.add_argument("--short-until", type=float, default=0.3, help="share of the time spent on short premises")
    parser.add_argument("--until", type=float, help="seconds since 1970 at which training ends at the latest")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--own", type=float, default=0.33, help="share of the pairs made by rule that a round gets")
    parser.add_argument("--teachers", type=int, default=0, metavar="N",
                        help="first train N teachers with seeds of their own, then a student of them all")
    parser.add_argument("--teacher-seconds", type=float, help="time box of each of them (default: --seconds)")
    parser.add_argument("--teacher", type=Path, action="append", default=[], metavar="OUT",
                        help="learn from what this finished run says of each pair; may be given again")
    parser.add_argument("--workers", type=int, default=0, help="processes that make pairs ahead; 3 suit a GPU")
    parser.add_argument("--batch-tokens", type=int, default=2560, help="padded tokens of a batch")
    parser.add_argument("--save-seconds", type=float, default=240, help="between two checkpoints")
    parser.add_argument("--pause-file", help="training waits as long as this file exists")
    parser.add_argument("--average", type=Path, action="append", default=[], metavar="OUT",
                        help="export the mean of this run's weights and those of another run that branched off it")
    parser.add_argument("--weights", choices=("last", "smoothed"), default="last",
                        help="export the last weights, or their running mean over the end of the training")
    parser.add_argument("--fixture", type=Path, metavar="DIR",
                        help="with the embedding model, write the sentences and fp32 vectors of the tests there")
    parser.add_argument("--only", choices=("fit", "export", "embedding"), help="one step of the three")
    chosen = parser.parse_args()
    chosen.base = chosen.base or base_folder()
    chosen.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(chosen.threads)
    return chosen


def mean_weights(runs, kind):
    """The mean of the weights of runs that branched off one checkpoint."""
    states = [torch.load(run / f"{kind}.pt", weights_only=True) for run in runs]
    return {name: torch.stack([state[name] for state in states]).mean(0) if weight.is_floating_point() else weight
            for name, weight in states[0].items()}


def train(chosen, data, tokenizer):
    """Trains one model and keeps its weights."""
    fit = Fit(chosen, data, tokenizer)
    fit.run()
    torch.save(fit.model.state_dict(), chosen.out / "last.pt")
    torch.save(fit.averaged().state_dict(), chosen.out / "smoothed.pt")


def teacher(chosen, number, data, tokenizer):
    """The folder of a teacher, trained if it is not there."""
    out = chosen.out / f"teacher-{number}"
    if not (out / "smoothed.pt").exists():
        out.mkdir(exist_ok=True)
        seconds = chosen.teacher_seconds or chosen.seconds
        own = {"out": out, "seed": chosen.seed + 100 + number, "seconds": seconds, "teacher": []}
        train(argparse.Namespace(**(vars(chosen) | own)), data, tokenizer)
    return out


def main():
    chosen = options()
    tokenizer = tokenizer_of(chosen.base)
    if chosen.only in (None, "fit"):
        data = sets.load(chosen.data)
        for number in range(chosen.teachers):
            chosen.teacher.append(teacher(chosen, number, data, tokenizer))
        train(chosen, data, tokenizer)
    if chosen.only in (None, "export"):
        model = PairClassifier(chosen.base)
        model.load_state_dict(mean_weights([chosen.out, *chosen.average], chosen.weights))
        torch.save({name: w.half() for name, w in model.state_dict().items()}, chosen.out / "exported.fp16.pt")
        export.to_folder(model.eval(), chosen, tokenizer)
    if chosen.only in (None, "embedding"):
        embedding.to_folder(chosen, tokenizer)


if __name__ == "__main__":
    main()
