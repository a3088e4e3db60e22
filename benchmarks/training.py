"""How fast the paper's network is trained: our loop against the plainest loop of PyTorch, results/training-speed.csv.

    python benchmarks/training.py [ROUNDS] [THREADS] [STEPS]

Region A of the paper, 500 x 375 px, batches of 8, Adam, mean absolute error, the paper's augmentation, in one process.
The plain loop is single precision in PyTorch's own order of memory. Each of its rows changes one thing, the last ones
several. The loops take turns, round by round; a row gives the median of its rounds, in images a second, and as a ratio
to the plain loop of the same round. Memory is the peak of the process while the loop runs. Ours is `Learner` with the
callbacks of `boneage.learn.fit.fit`. "inside" is the share of the time between forward and step. With one thread the
time is the processor's, which other work on the machine hardly moves; with several it is the clock's.
"""
import csv
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from fastai.callback.core import Callback

from boneage.learn.age import Cell, absolute_error
from boneage.learn.fit import Bfloat16, EpochSeed, keep_memory
from boneage.learn.grid import PAPER_RECIPE, age_dataloaders, age_learner, begin
from boneage.learn.scales import LAPTOP, PAPER

ROOT = Path(__file__).resolve().parent.parent


def now():
    """Seconds."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def hands(scale, n):
    """Made-up canvases and their table."""
    rng = np.random.default_rng(0)
    canvas = rng.integers(0, 255, (n, *scale.canvas), np.uint8)
    return canvas, pd.DataFrame(dict(male=rng.random(n) > .5, boneage=rng.uniform(20, 200, n)))


def peak(reset=False):
    """The largest memory of this process since the last reset, GB."""
    if reset: Path('/proc/self/clear_refs').write_text('5'); return 0.
    line = next(line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM'))
    return int(line.split()[1]) / 1e6


class Plain:
    """The plainest correct loop."""
    def __init__(self, cell, data, bf16=False, channels_last=False, compiled=False, **adam):
        self.net, self.bf16 = begin(cell, None), bf16
        if channels_last: self.net = self.net.to(memory_format=torch.channels_last)
        self.run = torch.compile(self.net) if compiled else self.net
        self.optimiser = torch.optim.Adam(self.net.parameters(), 2e-5, (.5, .999), **adam)
        self.batches = age_dataloaders(*data, np.arange(len(data[0])), np.arange(2), cell, PAPER_RECIPE).train

    def epoch(self):
        """Seconds, seconds inside the network, images."""
        start, inside, images = now(), 0., 0
        for x, sex, target in self.batches:
            at = now()
            with torch.autocast('cpu', torch.bfloat16, enabled=self.bf16): said = self.run(torch.Tensor(x), sex)
            absolute_error(said.float(), target).backward()
            self.optimiser.step()
            self.optimiser.zero_grad()
            inside, images = inside + now() - at, images + len(x)
        return now() - start, inside, images


class Watch(Callback):
    """As `boneage.learn.fit.Stopwatch`, on the clock of this script."""
    def before_train(self): self.start, self.inside = now(), 0.
    def before_batch(self): self.batch_start = now()
    def after_batch(self): self.inside += (now() - self.batch_start) * self.training
    def after_train(self): self.seconds = now() - self.start


class Ours:
    """The loop of `boneage.learn.fit`, without its checkpoints."""
    def __init__(self, cell, data, bf16=True, recipe=PAPER_RECIPE):
        self.images, rows = len(data[0]), np.arange(len(data[0]))
        self.learn = age_learner(age_dataloaders(*data, rows, rows[:2], cell, recipe), cell, recipe)
        self.callbacks = [EpochSeed(0), Watch(), *[Bfloat16()] * bf16]

    def epoch(self):
        watch = self.callbacks[1]
        with self.learn.no_bar(), self.learn.no_logging(): self.learn.fit(1, 2e-5, cbs=self.callbacks)
        return watch.seconds, watch.inside, self.images # of the training, without the validation


def interleaved(loops, rounds):
    """Images a second, share inside and memory of each loop, in each round."""
    found = {name: [] for name in loops}
    for n in range(rounds + 1): # the first one warms up
        for name, loop in loops.items():
            peak(reset=True)
            seconds, inside, images = loop.epoch()
            if n: found[name].append((images / seconds, inside / seconds, peak()))
            print(n, name, f'{images / seconds:.2f} images/s', flush=True)
    return {name: np.array(rows) for name, rows in found.items()}


def rows_of(found, against, threads):
    """A row each of the table."""
    for name, of in found.items():
        speed, inside, memory = np.median(of, axis=0)
        ratio = np.median(of[:, 0] / found[against][:, 0])
        yield dict(loop=name, images_a_second=round(speed, 2), ratio=round(ratio, 2), inside=round(inside, 3),
                   peak_gb=round(memory, 2), rounds=len(of), threads=threads)


def main(rounds=3, threads=2, steps=3):
    torch.set_num_threads(threads)
    cell, data = Cell('A', scale=PAPER), hands(PAPER, 8 * steps)
    plain = partial(Plain, cell, data)
    loops = {'plain': plain(), 'channels_last': plain(channels_last=True), 'fused Adam': plain(fused=True),
             'bfloat16': plain(bf16=True), 'bfloat16, channels_last': plain(bf16=True, channels_last=True),
             'torch.compile': plain(compiled=True), 'torch.compile, bfloat16': plain(compiled=True, bf16=True),
             'ours in single precision': Ours(cell, data, bf16=False), 'ours': Ours(cell, data)}
    table = [*rows_of(interleaved(loops, rounds), 'plain', torch.get_num_threads())]
    assert keep_memory()
    again = {f'{name}, malloc keeps memory': loops[name] for name in ('plain', 'ours in single precision', 'ours')}
    found = interleaved(again, rounds)
    table += rows_of(found, 'plain, malloc keeps memory', torch.get_num_threads())
    small = hands(LAPTOP, 32 * 4)
    laptop = {'laptop scale, ours': Ours(Cell('A', scale=LAPTOP), small)}
    table += rows_of(interleaved(laptop, rounds), 'laptop scale, ours', torch.get_num_threads())
    with (ROOT/'results/training-speed.csv').open('w', newline='') as file:
        writer = csv.DictWriter(file, [*table[0]])
        writer.writeheader()
        writer.writerows(table)
    print(pd.DataFrame(table).to_string(index=False))


if __name__ == '__main__': main(*map(int, sys.argv[1:]))
