"""The training loop: seeded, limited by time, resumable.

The learning rate follows the share of the time box that is used, so a slow or shared machine trains less but
still ends with a finished schedule. Two runs are equal only as far as their speed is. SIGTERM and SIGINT save a
checkpoint and end the run; the same command goes on from there.
"""
import os
import signal
import time
from pathlib import Path

import torch

from ahead import Rounds
from batches import batches, padded
from network import PairClassifier, loss_of, soft_loss
from pace import Pace
from start import load

WARMUP, WEIGHT_DECAY, CLIP = 0.03, 0.01, 1.0
AVERAGE_FROM, AVERAGE_DECAY = 0.7, 0.998
SAY_EVERY = 50
# What a student's loss owes to its teachers; the rest is the labels'.
TEACHERS_SHARE = 0.9


class Fit:
    """One training run and what its checkpoint holds."""

    def __init__(self, options, sets, tokenizer):
        self.options = options
        self.rounds = Rounds(sets, tokenizer, options)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.manual_seed(options.seed)
        self.model = PairClassifier(options.base, options.dropout).to(self.device)
        if options.start:
            load(self.model, options.start)
        self.teachers = [self.teacher(folder) for folder in options.teacher]
        self.params = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.model.groups(options.rate), lr=options.rate, weight_decay=WEIGHT_DECAY, fused=True)
        self.average = None
        self.pace = Pace(options.threads)
        self.place = {"phase": "short", "round": 0, "batch": 0, "used": 0.0, "progress": 0.0, "step": 0,
                      "pairs": 0}
        self.stopped = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        self.checkpoint = Path(options.out) / "checkpoint.pt"
        if self.checkpoint.exists():
            self.resume()

    def teacher(self, folder):
        """A finished run's averaged weights, to learn from."""
        model = PairClassifier(self.options.base, dropout=0.0)
        model.load_state_dict(torch.load(folder / "smoothed.pt", weights_only=True))
        return model.to(self.device).eval()

    def resume(self):
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = state["average"]
        self.place.update(state["place"])
        print(f"resumed at {self.place}", flush=True)

    def save(self):
        """Written beside and renamed, so that an interruption leaves the old checkpoint."""
        beside = self.checkpoint.with_suffix(".new")
        torch.save({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                    "average": self.average, "place": self.place}, beside)
        os.replace(beside, self.checkpoint)

    def stop(self, *_):
        self.stopped = True

    def advance(self, took):
        """Moves on by the share that `took` seconds are of the time that was left; a pause makes less be left."""
        left = self.options.seconds - self.place["used"]
        if self.options.until:
            left = min(left, self.options.until - time.time())
        done = self.place["progress"]
        self.place["used"] += took
        self.place["progress"] = 1.0 if left <= took else done + (1 - done) * took / left

    def run(self):
        """Trains until the time box is used."""
        self.model.train()
        while self.place["progress"] < 1:
            phase = "short" if self.place["progress"] < self.options.short_until else "long"
            if phase != self.place["phase"]:
                self.place.update(phase=phase, round=0, batch=0)
            rows, seed = self.rounds.rows(phase, self.place["round"])
            tokens = sum(len(ids) for ids, _, _ in rows)
            print(f"{phase} round {self.place['round']}: {len(rows)} pairs, {tokens} tokens", flush=True)
            if self.one_round(batches(rows, self.options.batch_tokens, seed), phase):
                self.place.update(round=self.place["round"] + 1, batch=0)
        self.rounds.close()
        self.save()

    def one_round(self, found, phase):
        """Trains on the batches not yet seen; true if all were, false if the phase or the time box ended."""
        saved, total, count = time.monotonic(), 0.0, 0
        for batch in found[self.place["batch"]:]:
            while self.options.pause_file and os.path.exists(self.options.pause_file):
                if self.stopped:
                    break
                time.sleep(1)
            start = time.monotonic()
            self.pace.before_step()
            total, count = total + self.step(batch), count + 1
            took = time.monotonic() - start
            self.pace.after_step(took, len(batch) * len(batch[-1][0]))
            self.advance(took)
            self.place["batch"] += 1
            self.place["step"] += 1
            self.place["pairs"] += len(batch)
            if count == SAY_EVERY:
                self.say(total / count)
                total, count = 0.0, 0
            if self.stopped or time.monotonic() - saved > self.options.save_seconds:
                self.save()
                saved = time.monotonic()
            if self.stopped:
                raise SystemExit(f"stopped at {self.place}")
            if self.place["progress"] >= 1 or (phase == "short" and self.place["progress"] >= self.options.short_until):
                return False
        return True

    def say(self, loss):
        place = self.place
        print(f"{place['used']:.0f} s, {place['progress']:.1%}, step {place['step']}, {place['pairs']} pairs, "
              f"loss {loss:.4f}, {self.pace.now} threads", flush=True)

    def step(self, batch):
        """One update; gives the loss."""
        progress = self.place["progress"]
        rate = min(progress / WARMUP, (1 - progress) / (1 - WARMUP)) + 1e-3
        for group in self.optimizer.param_groups:
            group["lr"] = group["share"] * min(1.0, rate)
        inputs, labels = padded(batch, self.device)
        with torch.autocast(self.device, dtype=torch.bfloat16):
            logits = self.model(**inputs)
        loss = loss_of(logits, labels)
        if self.teachers:
            loss = TEACHERS_SHARE * soft_loss(logits, self.taught(inputs)) + (1 - TEACHERS_SHARE) * loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.params, CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if progress >= AVERAGE_FROM:
            if self.average is None:
                self.average = [p.detach().clone() for p in self.params]
            torch._foreach_lerp_(self.average, [p.detach() for p in self.params], 1 - AVERAGE_DECAY)
        return loss.item()

    @torch.no_grad()
    def taught(self, inputs):
        """The mean of the teachers' probabilities."""
        with torch.autocast(self.device, dtype=torch.bfloat16):
            said = [teacher(**inputs).float().softmax(-1) for teacher in self.teachers]
        return torch.stack(said).mean(0)

    def averaged(self):
        """The model with its averaged weights, or as it is if the average has not begun."""
        if self.average is not None:
            with torch.no_grad():
                for parameter, mean in zip(self.params, self.average):
                    parameter.copy_(mean)
        return self.model.cpu().eval()
