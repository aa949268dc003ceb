"""Chooses how many threads a step uses, by what each number costs at the moment.

Threads of one step wait for each other, so where other processes keep a core busy, more threads can be slower
than one. On a free machine they gain something, but by far not their number.
"""
import torch

TRY_EVERY, TRY_FOR, MEMORY = 60, 5, 0.7


class Pace:
    """Seconds per token with one and with all threads, as last seen."""

    def __init__(self, threads):
        self.choices = sorted({1, threads})
        self.seconds = dict.fromkeys(self.choices, 0.0)
        self.now, self.steps = threads, 0

    def before_step(self):
        """Sets the number of threads: the fastest, and now and then another to see how fast it has become."""
        trying = len(self.choices) > 1 and self.steps % TRY_EVERY < TRY_FOR
        fastest = min(self.choices, key=self.seconds.__getitem__)
        wanted = next(n for n in self.choices if n != fastest) if trying else fastest
        if wanted != self.now:
            torch.set_num_threads(wanted)
            self.now = wanted
        self.steps += 1

    def after_step(self, seconds, tokens):
        before = self.seconds[self.now]
        new = seconds / tokens
        self.seconds[self.now] = MEMORY * before + (1 - MEMORY) * new if before else new
