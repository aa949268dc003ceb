"""Rounds of training pairs, made by other processes while the model trains: on a GPU a round is used up faster than
one process makes the next."""
import multiprocessing
from collections import deque
from concurrent.futures import ProcessPoolExecutor

from batches import MOST_TOKENS, encoded
from examples import Maker, seed_of

_shared = {}


def _keep(sets, tokenizer, own):
    _shared.update(sets=sets, tokenizer=tokenizer, own=own)


def _round(phase, seed):
    pairs = Maker(_shared["sets"], phase, seed, _shared["own"]).round()
    return encoded(pairs, _shared["tokenizer"], MOST_TOKENS[phase])


class Rounds:
    """Gives the rows of one round after the other; with workers, the next ones are in the making."""

    def __init__(self, sets, tokenizer, options):
        self.seed, self.workers, self.waiting = options.seed, options.workers, deque()
        self.pool = None
        if self.workers:
            # Forked, so that the sets are not copied; before anything touches the GPU.
            forked = multiprocessing.get_context("fork")
            self.pool = ProcessPoolExecutor(self.workers, forked, _keep, (sets, tokenizer, options.own))
        else:
            _keep(sets, tokenizer, options.own)

    def rows(self, phase, number):
        """The rows of this round and the seed that they come from."""
        seed = seed_of(self.seed, phase, number)
        if not self.pool:
            return _round(phase, seed), seed
        while self.waiting and self.waiting[0][0] != (phase, number):
            self.waiting.popleft()[1].cancel()
        first = number + len(self.waiting)
        for ahead in range(first, number + self.workers + 1):
            asked = self.pool.submit(_round, phase, seed_of(self.seed, phase, ahead))
            self.waiting.append(((phase, ahead), asked))
        return self.waiting.popleft()[1].result(), seed

    def close(self):
        """Ends the processes."""
        if self.pool:
            self.pool.shutdown(wait=False, cancel_futures=True)
