"""The snapshot rules again, written to be plainly right and not to be fast.

It keeps every value for ever, in lists, and looks through them all at each event. It shares
nothing with the real core but the names of specs, events and outcomes.
"""

from koalja_fn.snapshots import (
    Admitted,
    Arrival,
    Formed,
    Free,
    Skipped,
    Superseded,
    Time,
    Unmatched,
    Window,
)


class NaiveCore:
    def __init__(self, spec):
        self.spec = spec
        self.now = 0
        self.last_formed = None
        self.values = [[] for _ in spec.inputs]  # (index, arrival, time it was let in)
        self.cut = [[] for _ in spec.inputs]  # complete windows, as lists of indexes
        self.state = [[] for _ in spec.inputs]  # for each of them: waiting, used or gone
        self.previous = [set() for _ in spec.inputs]  # members in the previous snapshot
        self.current = [None for _ in spec.inputs]  # window last used
        self.groups = []  # align: [pair, since, {input number: index}, waiting | matched | over]
        self.matched = []
        self.given_up = []  # (pair, when)
        self.sequence = {}  # (input number, source) -> [expected, [(number, time, arrival)]]
        self.holding = []  # keys of `sequence`, in the order in which they began to hold values back
        self.out = []
        self.cause = 0

    def run(self, events):
        for self.cause, event in enumerate(events):
            match event:
                case Arrival():
                    self.arrival(event)
                case Time(at):
                    self.time(at)
                case Free():
                    self.free()
        return self.out

    # windows

    def open_values(self, n):
        """Values behind the last window that was cut (elastic inputs only)."""
        end = self.cut[n][-1][-1] + 1 if self.cut[n] else 0
        return [v for v in self.values[n] if v[0] >= end]

    def try_cut(self, n, early=False):
        i = self.spec.inputs[n]
        if i.least == i.most:
            j = len(self.cut[n])
            members = [v[0] for v in self.values[n]][j * i.slide : j * i.slide + i.most]
            if len(members) < i.most:
                return False
        else:
            waiting = self.open_values(n)
            over = self.spec.within is not None and waiting and waiting[0][2] + self.spec.within <= self.now
            if not (len(waiting) == i.most or (len(waiting) >= i.least and (over or early))):
                return False
            members = [v[0] for v in waiting]
        self.cut[n].append(members)
        self.state[n].append("waiting")
        if i.passive:
            self.state[n][-1] = "used"
            self.current[n] = members
        elif self.spec.policy == "swap":
            for j, old in enumerate(self.cut[n][:-1]):
                if self.state[n][j] == "waiting":
                    self.state[n][j] = "gone"
                    self.out.append(Superseded(i.name, old[0], len(old)))
        return True

    def let_in(self, n, a):
        i = self.spec.inputs[n]
        index = len(self.values[n])
        if i.ordered or len(i.wires) > 1:
            self.out.append(Admitted(i.name, index, a.wire, a.position))
        self.values[n].append((index, a, self.now))
        if self.spec.policy == "align" and not i.passive:
            self.pair(n, index, a)
        elif not self.try_cut(n):
            return
        self.form()

    # align

    def pair(self, n, index, a):
        name, pair = self.spec.inputs[n].name, (a.key, a.index)
        if not a.key:
            self.out.append(Unmatched(name, index, 1, "no key"))
            return
        for group in self.groups:
            if group[3] == "waiting" and group[0] == pair and n not in group[2]:
                group[2][n] = index
                break
        else:
            if any(p == pair and when + self.spec.within > self.now for p, when in self.given_up):
                self.out.append(Unmatched(name, index, 1, "late"))
                return
            group = [pair, self.now, {n: index}, "waiting"]
            self.groups.append(group)
        if all(j in group[2] for j, i in enumerate(self.spec.inputs) if not i.passive):
            group[3] = "matched"
            self.matched.append(group)

    # forming

    def waiting(self, n):
        return [w for w, s in zip(self.cut[n], self.state[n], strict=True) if s == "waiting"]

    def rate_allows(self):
        return (
            self.spec.interval is None
            or self.last_formed is None
            or self.now - self.last_formed >= self.spec.interval
        )

    def possible(self):
        """The windows of the snapshot that could form, or None."""
        chosen = []
        new = False
        for n, i in enumerate(self.spec.inputs):
            if i.passive:
                chosen.append(self.current[n])
            elif self.spec.policy == "align":
                chosen.append([self.matched[0][2][n]] if self.matched else None)
                new = True
            elif self.waiting(n):
                chosen.append(self.waiting(n)[0])
                new = True
            elif self.spec.policy == "swap":
                chosen.append(self.current[n])
            else:
                chosen.append(None)
        return chosen if new and all(w is not None for w in chosen) else None

    def form(self):
        while self.rate_allows() and (chosen := self.possible()) is not None:
            windows = []
            for n, (i, members) in enumerate(zip(self.spec.inputs, chosen, strict=True)):
                fresh = 0 if i.passive else len(set(members) - self.previous[n])
                windows.append(Window(i.name, members[0], len(members), fresh))
                self.previous[n] = set(members)
                self.current[n] = members
                if not i.passive and self.spec.policy != "align":
                    for j, w in enumerate(self.cut[n]):
                        if w == members and self.state[n][j] == "waiting":
                            self.state[n][j] = "used"
            if self.spec.policy == "align":
                self.matched.pop(0)
            self.out.append(Formed(tuple(windows), self.cause))
            self.last_formed = self.now

    # events

    def arrival(self, a):
        (n,) = (n for n, i in enumerate(self.spec.inputs) if a.wire in i.wires)
        if not self.spec.inputs[n].ordered or not a.sequence.isdigit():
            self.let_in(n, a)
            return
        line = self.sequence.setdefault((n, a.source), [int(a.sequence), []])
        if int(a.sequence) < line[0]:
            self.let_in(n, a)
            return
        line[1].append((int(a.sequence), self.now, a))
        self.go_on(n, line)
        if len(line[1]) >= 100:
            self.jump(n, a.source, line)
        self.note_holding(n, a.source)

    def note_holding(self, n, source):
        key = (n, source)
        holds = bool(self.sequence[key][1])
        if holds and key not in self.holding:
            self.holding.append(key)
        if not holds and key in self.holding:
            self.holding.remove(key)

    def go_on(self, n, line):
        while any(number <= line[0] for number, _, _ in line[1]):
            item = min(line[1], key=lambda x: x[0])
            line[1].remove(item)
            line[0] = max(line[0], item[0] + 1)
            self.let_in(n, item[2])

    def jump(self, n, source, line):
        lowest = min(number for number, _, _ in line[1])
        self.out.append(Skipped(self.spec.inputs[n].name, source, line[0] - 1, lowest))
        line[0] = lowest
        self.go_on(n, line)

    def time(self, at):
        self.now = max(self.now, at)
        within = self.spec.within
        for n, i in enumerate(self.spec.inputs):
            if i.least < i.most:
                self.try_cut(n)
        self.form()
        if within is None:
            return
        for group in self.groups:
            if group[3] == "waiting" and group[1] + within <= self.now:
                group[3] = "over"
                self.given_up.append((group[0], self.now))
                for n in sorted(group[2]):
                    self.out.append(Unmatched(self.spec.inputs[n].name, group[2][n], 1, "alone"))
        for n, i in enumerate(self.spec.inputs):
            for m, source in [key for key in self.holding if key[0] == n and i.ordered]:
                line = self.sequence[m, source]
                while any(when + within <= self.now for _, when, _ in line[1]):
                    self.jump(n, source, line)
                self.note_holding(m, source)

    def free(self):
        if not self.rate_allows():
            return
        if self.possible() is None:
            closing = [n for n in range(len(self.spec.inputs)) if self.would_close(n)]
            if self.would_form(closing):
                for n in closing:
                    self.try_cut(n, early=True)
        self.form()

    def would_close(self, n):
        """Whether closing this input's open window would add to a snapshot, not replace an unused one."""
        i = self.spec.inputs[n]
        if i.least == i.most or len(self.open_values(n)) < i.least:
            return False
        return self.current[n] is None if i.passive else not self.waiting(n)

    def would_form(self, closing):
        new = False
        for n, i in enumerate(self.spec.inputs):
            has_new = n in closing or bool(self.waiting(n))
            if i.passive:
                if n not in closing and self.current[n] is None:
                    return False
            elif self.spec.policy == "align":
                new = new or bool(self.matched)
            elif self.spec.policy == "swap":
                if not has_new and self.current[n] is None:
                    return False
                new = new or has_new
            else:
                if not has_new:
                    return False
                new = True
        return new
