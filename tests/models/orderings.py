#!/usr/bin/env python3
"""Checks the orderings of the registry's loads and stores in all executions that release and acquire allow.

usage: tests/models/orderings.py

The models for spin take every load and store to happen at once and for all. Processors with a weaker order, such as arm64,
do not do that, and this machine may not be one. So each protocol below is run under the memory model itself: a word has a
history of stores; each thread has a view, which says how old a store it may still read; a store with release order carries
its thread's view along, and a load with acquire order takes over that of what it reads. All executions are looked at, so a
protocol is right if nothing wrong is found. Each has orderings that it needs: with one of them relaxed, something wrong
must be found, or the check would be blind.

That the protocols are those of registry/ rests on reading: each names the functions that it stands for.

Ends with a line `N passed, N failed`; exit 1 when something failed.
"""

import sys

STORES_MAX = 1_000_000  # states of one protocol; none comes near


class Memory:
    """Histories of words and views of threads; immutable, so that executions can be compared.

    words: word -> tuple of (number of the store, value, view that it carries, whether it may have no store before it)
    views: thread -> {word: number of the oldest store that it may read}
    """

    def __init__(self, words, views, next_number):
        self.words, self.views, self.next_number = words, views, next_number

    @staticmethod
    def initial(values, threads):
        words = {word: ((0, value, (), False),) for word, value in values.items()}
        return Memory(words, tuple({} for _ in range(threads)), 1)

    def key(self):
        """Stores are told apart by their places in the histories, so that their numbers do not matter."""
        place = {(word, store[0]): at for word, stores in self.words.items() for at, store in enumerate(stores)}
        seen = lambda view: tuple(sorted((word, place[word, number]) for word, number in dict(view).items() if place[word, number]))
        return (tuple((word, tuple((value, seen(view), tied) for _, value, view, tied in stores))
                      for word, stores in sorted(self.words.items())), tuple(seen(view) for view in self.views))

    def _place(self, word, number):
        return next(at for at, store in enumerate(self.words[word]) if store[0] == number)

    def _later(self, view, other):
        """Two views as one: of each word the later store."""
        joined = dict(view)
        for word, number in dict(other).items():
            if word not in joined or self._place(word, number) > self._place(word, joined[word]):
                joined[word] = number
        return joined

    def _with(self, words, thread, view, next_number=None):
        views = list(self.views)
        views[thread] = view
        return Memory(words, tuple(views), next_number or self.next_number)

    def loads(self, thread, word, acquire):
        """(value, memory afterwards) of each store that may be read."""
        view = self.views[thread]
        for at in range(self._place(word, view.get(word, self.words[word][0][0])), len(self.words[word])):
            number, value, carried, _ = self.words[word][at]
            after = self._later(view, {word: number})
            yield value, self._with(self.words, thread, self._later(after, carried) if acquire else after)

    def _insert(self, thread, word, at, value, view, carried, tied):
        number = self.next_number
        stores = self.words[word]
        words = {**self.words, word: (*stores[:at], (number, value, None, tied), *stores[at:])}
        view = {**view, word: number}
        carries = tuple(sorted(({**view} if carried is None else {**carried, word: number}).items()))
        words[word] = tuple(store if store[0] != number else (number, value, carries, tied) for store in words[word])
        return self._with(words, thread, view, number + 1)

    def stores(self, thread, word, value, release):
        """The memory after a store, at each place in the history that it may get."""
        view = self.views[thread]
        first = self._place(word, view.get(word, self.words[word][0][0])) + 1
        for at in range(first, len(self.words[word]) + 1):
            # Nothing comes between what a compare-and-exchange has read and what it stored.
            if at < len(self.words[word]) and self.words[word][at][3]:
                continue
            yield self._insert(thread, word, at, value, view, None if release else {}, False)

    def exchanges(self, thread, word, expected, value, release, acquire):
        """(whether it was done, value read, memory afterwards) of a compare-and-exchange."""
        for found, after in self.loads(thread, word, acquire):
            if found != expected:
                yield False, found, after
        stores = self.words[word]
        view = self.views[thread]
        for at in range(self._place(word, view.get(word, stores[0][0])), len(stores)):
            number, found, carried, _ = stores[at]
            if found != expected or (at + 1 < len(stores) and stores[at + 1][3]):
                continue
            seen = self._later(view, {word: number})
            seen = self._later(seen, carried) if acquire else seen
            # A store that takes the place of another one carries on what that carried (a release sequence).
            passes_on = self._later(seen, carried) if release else dict(carried)
            yield True, found, self._insert(thread, word, at + 1, value, seen, passes_on, True)


# Threads are generator functions that yield what they do next and are sent what it gave:
#   ('load', word) -> value    ('store', word, value) -> None    ('replace', word, expected, value) -> whether it was done
# The ordering of each is acquire or release, as registry/layout_words.h has it, unless its place is in `relaxed`: an operation
# may end in a name, ('load', word, 'name').

def executions(threads, values, relaxed):
    """The results of all executions, as sets of tuples with the result of each thread, and the values that stay."""
    results, seen, count = set(), set(), 0
    # A thread's state is what it was sent so far: it is run again from its beginning for each step.
    todo = [(Memory.initial(values, len(threads)), tuple(() for _ in threads))]
    while todo:
        memory, sent = todo.pop()
        key = (memory.key(), sent)
        if key in seen:
            continue
        seen.add(key)
        count += 1
        assert count < STORES_MAX, 'too many states'
        has_ended, ended = [], []
        for thread, answers in enumerate(sent):
            operation, result = replay(threads[thread], answers)
            has_ended.append(operation is None)
            ended.append(result)
            if operation is not None:
                todo += [(after, sent[:thread] + ((*answers, answer),) + sent[thread + 1:])
                         for answer, after in step(memory, thread, operation, relaxed)]
        if all(has_ended):
            results.add((tuple(ended), tuple((word, stores[-1][1]) for word, stores in sorted(memory.words.items()))))
    return results


def replay(thread, answers):
    """(next operation, None), or (None, result) when the thread ends."""
    running = thread()
    try:
        operation = next(running)
        for answer in answers:
            operation = running.send(answer)
    except StopIteration as end:
        return None, end.value
    return operation, None


def step(memory, thread, operation, relaxed):
    kind, word, *rest = operation
    expected_arguments = {'load': 0, 'store': 1, 'replace': 2}[kind]
    is_ordered = not rest[expected_arguments:] or rest[expected_arguments] != relaxed
    if kind == 'load':
        yield from memory.loads(thread, word, is_ordered)
    elif kind == 'store':
        for after in memory.stores(thread, word, rest[0], is_ordered):
            yield None, after
    else:
        for done, _, after in memory.exchanges(thread, word, rest[0], rest[1], is_ordered, is_ordered):
            yield done, after


# INV-1, L-1, L-2: a copy of a record is of one registration.

def reuse_record():
    """Writer::Reuse, Fill and MakeLive: a remembered name is registered again."""
    if (yield 'replace', 'state', 'live 1', 'claimed'):
        yield 'store', 'address', 2, 'field store'
        yield 'store', 'extra', 2, 'field store'
        yield 'store', 'state', 'live 2', 'state store'


def copy_record():
    """CopyRecord, called by LookupIn."""
    state = yield 'load', 'state', 'state load'
    if state == 'claimed':
        return None
    address = yield 'load', 'address', 'field load'
    extra = yield 'load', 'extra', 'field load'
    if (yield 'load', 'state', 'second load') != state:
        return None
    return state, address, extra


def copies_are_whole(results):
    return all(copy is None or copy in (('live 1', 1, 1), ('live 2', 2, 2)) for (_, copy), _ in results)


# INV-2, L-3: who finds a new record on its chain finds what was written to it.

def register_record():
    """Writer::Register with a new record: Prepare, and the exchange of the chain's head."""
    yield 'store', 'hash', 7, 'before linking'
    yield 'store', 'name', 7, 'before linking'
    if (yield 'replace', 'head', 0, 1, 'linking'):
        yield 'store', 'state', 'live', 'state store'


def walk_chain():
    """ChainWalk and HasName."""
    if (yield 'load', 'head', 'head load') == 0:
        return None
    yield 'load', 'state'
    return (yield 'load', 'hash'), (yield 'load', 'name')


def linked_is_written(results):
    return all(found in (None, (7, 7)) for (_, found), _ in results)


# The bit of a record that is live is set, whoever clears bits meanwhile (registry/occupancy). A word of bits has a version.

def occupy():
    """Writer::Reuse with SetOccupied."""
    if (yield 'replace', 'state', 'remembered', 'claimed', 'claim'):
        for _ in range(3):
            bits = yield 'load', 'bits'
            if (yield 'replace', 'bits', bits, (bits[0] + 1, True), 'set'):
                break
        yield 'store', 'state', 'live'


def clear_if_vacant():
    """ClearIfVacant, of a writer that was late."""
    for _ in range(2):
        bits = yield 'load', 'bits', 'bits load'
        if not bits[1]:
            return
        if (yield 'load', 'state') not in ('remembered', 'free'):
            return
        if (yield 'replace', 'bits', bits, (bits[0] + 1, False)):
            return


def live_is_occupied(results):
    return all(dict(values)['state'] != 'live' or dict(values)['bits'][1] for _, values in results)


# A list that was made after a change was announced has the change (AnnounceChange; daemon/serve's text of NAMES).

def change():
    yield 'store', 'state', 'live', 'state store'
    yield 'replace', 'generation', 1, 2, 'announcing'


def make_list():
    generation = yield 'load', 'generation', 'generation load'
    return generation, (yield 'load', 'state')


def announced_is_listed(results):
    return all(listed != (2, 'remembered') for (_, listed), _ in results)


# L-9: a name that is registered anew after it was retired gets a creation above the one it had.

def retire():
    """Slab::Retire: the floor is raised before the record leaves its chain."""
    yield 'replace', 'floor', 0, 5, 'raising'
    yield 'replace', 'head', 1, 0, 'unlinking'


def register_anew():
    """Writer::Register: the creation is taken after the search that did not find the name."""
    if (yield 'load', 'head', 'head load') == 1:
        return None
    return (yield 'load', 'floor')


def creation_rises(results):
    return all(floor in (None, 5) for (_, floor), _ in results)


# (protocol, threads, values at the beginning, what must hold, orderings that it needs)
PROTOCOLS = [
    ('a copy is of one registration', (reuse_record, copy_record), {'state': 'live 1', 'address': 1, 'extra': 1}, copies_are_whole,
     ('field store', 'field load', 'state store', 'state load')),
    ('a linked record is written', (register_record, walk_chain), {'hash': 0, 'name': 0, 'head': 0, 'state': 'claimed'},
     linked_is_written, ('linking', 'head load')),
    ('a live record is occupied', (occupy, clear_if_vacant), {'state': 'remembered', 'bits': (1, True)}, live_is_occupied,
     ('set', 'bits load')),
    ('what was announced is listed', (change, make_list), {'state': 'remembered', 'generation': 1}, announced_is_listed,
     ('announcing', 'generation load')),
    ('a creation rises', (retire, register_anew), {'head': 1, 'floor': 0}, creation_rises, ('unlinking', 'head load')),
]


def main():
    passed = failed = 0

    def say(is_right, text):
        nonlocal passed, failed
        passed, failed = passed + is_right, failed + (not is_right)
        print(f'{"ok" if is_right else "WRONG"}: {text}')

    for name, threads, values, holds, needed in PROTOCOLS:
        results = executions(threads, values, None)
        say(holds(results), f'{name}: {len(results)} results')
        for ordering in needed:
            say(not holds(executions(threads, values, ordering)), f'{name}: found with a relaxed {ordering}')
    print(f'{passed} passed, {failed} failed')
    return failed > 0


if __name__ == '__main__':
    sys.exit(main())
