"""Which packages can be installed from a repository, before and after an update: by libsolv."""

import solv

# How many packages are tried at once: where all can be installed together, each can.
BATCH_MAX = 200

# What says why, beneath chains of "… requires …".
ROOTS = {
    solv.Solver.SOLVER_RULE_PKG_NOTHING_PROVIDES_DEP: "nothing provides",
    solv.Solver.SOLVER_RULE_PKG_CONFLICTS: "conflicts",
    solv.Solver.SOLVER_RULE_PKG_SELF_CONFLICT: "conflicts with itself",
    solv.Solver.SOLVER_RULE_PKG_OBSOLETES: "obsoletes",
    solv.Solver.SOLVER_RULE_PKG_IMPLICIT_OBSOLETES: "obsoletes",
    solv.Solver.SOLVER_RULE_PKG_SAME_NAME: "the same name",
    solv.Solver.SOLVER_RULE_PKG_NOT_INSTALLABLE: "is not installable",
}


class Trouble:
    """Why a package cannot be installed: `causes` to compare, `text` to read, the packages that play a part."""

    def __init__(self, causes, text, solvables):
        self.causes, self.text, self.solvables = causes, text, solvables


def newest(solvables):
    """Of each name and architecture the newest by RPM's comparison: what an installed system gets."""
    found = {}
    for solvable in solvables:
        key = (solvable.nameid, solvable.archid)
        other = found.get(key)
        if other is None or solvable.evrcmp(other) > 0:
            found[key] = solvable
    return list(found.values())


class World:
    """A choice among the packages of a pool. Only one is in force at a time."""

    def __init__(self, pool, solvables):
        self.pool = pool
        obsolete = obsoleted(solvables)
        self.solvables = [solvable for solvable in solvables if solvable.id not in obsolete]
        self.ids = {solvable.id for solvable in self.solvables}

    def enter(self):
        self.pool.set_considered_list([solvable.id for solvable in self.solvables])
        self.pool.createwhatprovides()
        self.solver = self.pool.Solver()
        # Weak dependencies break nothing.
        self.solver.set_flag(solv.Solver.SOLVER_FLAG_IGNORE_RECOMMENDED, 1)
        return self

    def install(self, solvables):
        how = solv.Job.SOLVER_INSTALL | solv.Job.SOLVER_SOLVABLE
        return self.solver.solve([self.pool.Job(how, solvable.id) for solvable in solvables])

    def broken(self, solvables, progress=None):
        """The packages that cannot be installed, each with why."""
        found, todo, done = {}, [solvables[at:at + BATCH_MAX] for at in range(0, len(solvables), BATCH_MAX)], 0
        while todo:
            batch = todo.pop()
            if not batch:
                continue
            problems = self.install(batch)
            if problems and len(batch) > 1:
                middle = len(batch) // 2
                todo += [batch[:middle], batch[middle:]]
                continue
            if problems:
                found[batch[0].id] = trouble(batch[0], problems)
            done += len(batch)
            if progress:
                progress(done)
        return found

    def trouble_with(self, solvable):
        """Why one package cannot be installed, or nothing."""
        problems = self.install([solvable])
        return trouble(solvable, problems) if problems else None


def obsoleted(solvables):
    """The ids of packages that another one of them obsoletes: by name, as RPM does."""
    by_name, found = {}, set()
    for solvable in solvables:
        by_name.setdefault(solvable.name, []).append(solvable)
    for solvable in solvables:
        for dep in solvable.lookup_deparray(solv.SOLVABLE_OBSOLETES):
            for other in by_name.get(str(dep).split(" ", 1)[0], ()):
                if other.nameid != solvable.nameid and other.matchesdep(solv.SOLVABLE_NAME, dep):
                    found.add(other.id)
    return found


def trouble(solvable, problems):
    roots, chain, solvables, texts = set(), set(), set(), []
    for problem in problems:
        for rule in problem.findallproblemrules():
            for info in rule.allinfos():
                own = [one for one in (info.solvable, info.othersolvable) if one]
                solvables.update(one.id for one in own)
                names = tuple(one.name for one in own)
                cause = (info.type, names, str(info.dep) if info.dep else "")
                if info.type in ROOTS:
                    roots.add(cause)
                elif info.type == solv.Solver.SOLVER_RULE_PKG_REQUIRES:
                    chain.add(cause)
                else:
                    continue
                text = info.problemstr()
                if text not in texts:
                    # The roots first.
                    texts.insert(0, text) if info.type in ROOTS else texts.append(text)
    if not texts:
        texts = [str(problem) for problem in problems]
    return Trouble(roots or chain, "; ".join(texts), solvables | {solvable.id})


def dependents(pool, solvables, start):
    """Those of the packages that a change of the packages `start` may touch: they need, transitively, what one of
    those provides, or conflict with it. To be called while all packages are in force."""
    reached = {solvable.id for solvable in start}
    needs, cache = {}, {}

    def providers(dep):
        known = cache.get(dep.id)
        if known is None:
            known = cache[dep.id] = frozenset(one.id for one in pool.whatprovides(dep.id))
        return known

    users = {}
    for solvable in solvables:
        for kind in (solv.SOLVABLE_REQUIRES, solv.SOLVABLE_CONFLICTS):
            for dep in solvable.lookup_deparray(kind):
                for one in providers(dep):
                    users.setdefault(one, set()).add(solvable.id)
                    if kind == solv.SOLVABLE_CONFLICTS:
                        users.setdefault(solvable.id, set()).add(one)
    todo = list(reached)
    while todo:
        for user in users.get(todo.pop(), ()):
            if user not in reached:
                reached.add(user)
                todo.append(user)
    return [solvable for solvable in solvables if solvable.id in reached]
