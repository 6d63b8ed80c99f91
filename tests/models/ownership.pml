/*
 * The ownership of a registry: its lock, its descriptor and its names, with strangers about and
 * files that vanish.
 *
 * The other two models had two holes, through which today's bugs went. registry.pml knows only
 * writers that are entitled to write: its Opener recovers a registry without being asked whose it
 * is, and nobody is a stranger there. upgrade.pml has the registry as a thing that a process owns
 * or not, without a file: nothing is at its path, so nothing vanishes from there. Here there are a
 * second mapper of another network namespace (B), a third one of the same namespace (LATE), and an
 * eraser that unlinks names; what the other two check is coarse here in return. A registration is
 * one step, and so is the message that hands everything to a successor.
 *
 *   OLD     serves; it may start NEW once, and takes back what NEW has done before its commit
 *   NEW     its successor, which may migrate the registry to another layout
 *   NEXT    the mapper that the keeper starts when the one that it follows has died
 *   KEEPER  the store (keeper or systemd): holds duplicates of locks, registries and connections
 *
 * Files and lock files have numbers; 0 is none. `path` and `lock_path` are what the two names lead
 * to. Who opens PATH.lock makes one where there is none, which then has another number. A lock is
 * held by all who have a duplicate of its descriptor, and dropped by the kernel with the last one.
 * An unlinked file cannot be linked again, so naming it is copying it, as in a migration.
 *
 * Rules that the design needs, each of which has a seeded bug:
 *   1  PATH is opened after the mapper's lock of PATH.lock is held, and is taken only if its header
 *      names this very lock file (BUG_NO_LOCK: today's code, BUG_NO_IDENTITY, BUG_STALE), and this
 *      network namespace (BUG_NO_NAMESPACE).
 *   2  All of it is done under the opening lock: else a stranger that only looks makes the right
 *      one believe that somebody has the registry (BUG_PEEK).
 *   3  The store gets the lock, then the registry, then connections (BUG_LOCK_NOT_KEPT,
 *      BUG_CONNECTIONS_FIRST), and has the registry before anything is registered (BUG_UNSECURED).
 *      The first of these is also what a keeper of layout 2 does, which is given no lock.
 *   4  Who is handed a registry uses it, whatever is at the path (BUG_PATH), also when it is marked
 *      superseded and there is no other (BUG_REFUSED). Of several it takes one that is not marked, and
 *      marks the others before it writes: one of them may be a copy that a mapper died over, which
 *      gets old (BUG_LEFTOVER).
 *      It also takes a migration back before it writes, as OLD does: else, if all die soon, what is at
 *      the path is old (BUG_LOOKS_LATER).
 *   5  Before anything is registered in a copy the store has it (BUG_COPY_NOT_KEPT), and the old file
 *      is marked, and then taken from the store (BUG_COPY_UNMARKED: neither).
 *   6  A name is taken only from a file whose header names one's own lock (BUG_OVERWRITE).
 *   7  NEXT waits for the opening lock, which NEW has while it migrates, having seen that OLD lives
 *      (BUG_UNOPENED, BUG_UNSEEN); it is that of the lock file that was handed over, not of the
 *      one at PATH.lock (BUG_OPENING_BY_PATH). A file is not copied while NEW has it.
 *   8  With MEND a mapper whose lock file has vanished makes another and locks it, and its header
 *      names that one after the store has it (BUG_MEND_NOT_KEPT). Who has locked a file that is no
 *      longer at PATH.lock, and finds that the header names another, begins anew (BUG_ONCE).
 *
 * Checked, as assertions:
 *   INV-11  one mapper writes to a registry at a time, one of its namespace; none makes an orphan
 *           of a registration whose connection another process holds
 *   INV-12  who is handed a registry has all registrations; what is free and has its names is had
 *           by the next mapper of its namespace; no living registry loses its name to another; in
 *           the end all that live are named, and somebody serves if the keeper lives
 *
 * Left out: a death of the kernel (other boots); what OLD and NEW say to each other and to the
 * keeper (upgrade.pml); registrations that end; where a registry of one's own is made.
 *
 * Sizes: DEATHS, ERASES (of names), NODES, FILES (that can be made); WITH_B, WITH_LATE, UPGRADE and
 * MEND say whether there is one.
 */
#ifndef DEATHS
#define DEATHS 2
#endif
#ifndef ERASES
#define ERASES 1
#endif
#ifndef WITH_B
#define WITH_B 1
#endif
#ifndef WITH_LATE
#define WITH_LATE 1
#endif
#ifndef UPGRADE
#define UPGRADE 1
#endif
#ifndef MEND
#define MEND 0
#endif

#define OLD 0
#define NEW 1
#define NEXT 2
#define B 3
#define LATE 4
#define KEEPER 5
#define NOBODY 6
#define BIT(who) (1 << (who))
#define IS_OF_HOUSE(who) ((who) == OLD || (who) == NEW || (who) == NEXT)
#define SPACE_OF(who) ((who) == B)

/* Those who register, as bits: 1, or 1 and 2. */
#ifndef NODES
#define NODES 1
#endif
#ifndef FILES
#define FILES 5
#endif
#define LOCKS (1 + ERASES)

byte path = 1;
byte lock_path = 1;
byte previous;            /* PATH.previous */
byte erases_left = ERASES;

byte files = 1;           /* so many were made */
byte names_lock[FILES + 1];
bool space[FILES + 1];
bool is_superseded[FILES + 1];
bool is_elsewhere[FILES + 1]; /* published under another name */
byte live[FILES + 1];     /* registrations, and those that are orphans */
byte orphans[FILES + 1];

byte locks = 1;
byte held[LOCKS + 1];     /* bits of those who have a duplicate */
byte opening[LOCKS + 1];  /* who has the opening lock: 1 + its number */

bool alive[NOBODY];
byte deaths_left = DEATHS;
byte serves[NOBODY];      /* the file that it writes to */
byte connections[NOBODY];
byte kept;                /* bits of files that the keeper has */
byte handed;              /* those that NEXT got of it */
byte followed = OLD;
bool was_upgraded, is_ready;
byte yours;               /* the file that OLD has handed to NEW */

/* What is true, for the checks only. */
byte registered;          /* nodes that have been told that they are */
byte newest, newest_before; /* where the house has written last */
bool keeper_has_died;

inline Die(who) {
  d_step {
    alive[who] = 0; serves[who] = 0; connections[who] = 0;
    dying = 1;
    do
    :: dying > LOCKS -> break
    :: else ->
       held[dying] = held[dying] & ~BIT(who);
       if :: opening[dying] == who + 1 -> opening[dying] = 0 :: else fi;
       dying++
    od;
    dying = 0;
    if :: who == KEEPER -> kept = 0; keeper_has_died = 1 :: else fi
  }
}
/* At the beginning of each step, which is atomic: it may be the last one, or somebody has killed it.
   Strangers do not die, but end, which is the same to the others. */
#define MAY_DIE(who)                                                              \
  if                                                                             \
  :: !alive[who] -> goto gone                                                    \
  :: alive[who] && IS_OF_HOUSE(who) && deaths_left > 0 -> deaths_left--; Die(who); goto gone \
  :: alive[who]                                                                  \
  fi
#define SERVED_BY_OTHERS(file, who)                                               \
  ((who != OLD && serves[OLD] == (file)) || (who != NEW && serves[NEW] == (file)) || \
   (who != NEXT && serves[NEXT] == (file)) || (who != B && serves[B] == (file)) ||   \
   (who != LATE && serves[LATE] == (file)))
/* NEXT has what the keeper has: what OLD and NEW hold beside that is upgrade.pml's. */
#define HELD_BY_OTHERS(who, node)                                                 \
  (((connections[KEEPER] |                                                        \
     ((who) == B || (who) == LATE -> connections[OLD] | connections[NEW] | connections[NEXT] : 0)) & \
    (node)) != 0)

/* From now on it writes to `file`. */
inline Serve(file) {
  assert(file != 0);
  assert(!SERVED_BY_OTHERS(file, me));                       /* INV-11 */
  assert(space[file] == SPACE_OF(me));                       /* INV-11 */
  serves[me] = file;
  if :: me != B -> newest = file :: else fi
}
/* Recovery: what has no connection here. */
inline MakeOrphan(node) {
  atomic {
    MAY_DIE(me);
    if
    :: (live[file] & node) && !(connections[me] & node) ->
       assert(!HELD_BY_OTHERS(me, node));                     /* INV-11 */
       live[file] = live[file] & ~node;
       orphans[file] = orphans[file] | node
    :: else
    fi
  }
}
/* `fresh`: a file like `file`, which nobody writes to meanwhile. It has no name yet. */
inline Copy() {
  d_step {
    files++;
    assert(files <= FILES);
    fresh = files;
    names_lock[fresh] = names_lock[file];
    space[fresh] = space[file];
    live[fresh] = live[file];
    orphans[fresh] = orphans[file]
  }
}
/* Takes the path, or another one. Looking and replacing are one step, as with RENAME_EXCHANGE and
   back again if the file that was there is another's. */
inline Name(new) {
  d_step {
    if
    :: path == 0 -> path = new
#ifdef BUG_OVERWRITE
    :: path != 0 ->
#else
    :: path != 0 && names_lock[path] == names_lock[new] ->
#endif
       assert(!SERVED_BY_OTHERS(path, me));                  /* INV-12 */
       if :: path != file -> is_superseded[path] = 1 :: else fi;
       path = new
#ifndef BUG_OVERWRITE
    :: path != 0 && names_lock[path] != names_lock[new] -> is_elsewhere[new] = 1
#endif
    fi
  }
}
#define IS_NAMED(file) (path == (file) || is_elsewhere[file])
#define IN_STORE(who) (IS_OF_HOUSE(who) && alive[KEEPER] && followed == (who))
#ifdef BUG_LOCK_NOT_KEPT
#define HAS_LOCK_KEPT true
#else
#define HAS_LOCK_KEPT ((held[lock] & BIT(KEEPER)) != 0)
#endif
#ifdef BUG_CONNECTIONS_FIRST
#define HAS_REGISTRY_KEPT true
#else
#define HAS_REGISTRY_KEPT ((kept & BIT(file)) != 0)
#endif
#ifdef BUG_COPY_NOT_KEPT
#define IS_IN_STORE(file) (kept != 0)
#else
#define IS_IN_STORE(file) ((kept & BIT(file)) != 0)
#endif
/* A keeper that lives has the registry before anything is registered, or handed to a successor. */
#ifdef BUG_UNSECURED
#define IS_SECURE true
#else
#define IS_SECURE (!alive[KEEPER] || followed != me || IS_IN_STORE(file))
#endif
/* It does not take what is at the path: is that right? */
inline LeavesIt() {
  assert(me != LATE || alive[OLD] || alive[NEW] || alive[NEXT] || alive[KEEPER] || serves[B] ||
         path == 0 || path != newest || names_lock[path] != lock_path)                 /* INV-12 */
}

#ifdef BUG_ONCE
#define IS_LAST_LOOK true
#else
#define IS_LAST_LOOK (lock == lock_path)
#endif

proctype Mapper(byte me) {
  byte file, fresh, lock, i, dying;
  bool has_lock;
end_idle:
  if
  :: me == OLD && alive[OLD] -> file = 1; lock = 1; goto serving
  :: me == NEW && alive[NEW] -> goto succeeding
  :: me == NEXT && alive[NEXT] -> goto inheriting
  :: (me == B || me == LATE) && !alive[me] && file == 0 -> alive[me] = 1; goto starting
  fi;

/* A mapper that was handed nothing. */
starting:
  atomic {
    MAY_DIE(me);
    has_lock = 0;
    if
    :: lock_path == 0 && locks < LOCKS -> locks++; lock_path = locks
    :: lock_path != 0
    :: lock_path == 0 && locks == LOCKS -> Die(me); goto gone
    fi;
    lock = lock_path
  };
open_lock:
#ifndef BUG_PEEK
  if
  :: atomic { alive[me] && opening[lock] == 0 -> opening[lock] = me + 1 }
  :: atomic { alive[me] && IS_OF_HOUSE(me) && deaths_left > 0 -> deaths_left--; Die(me); goto gone }
  fi;
  atomic {
    MAY_DIE(me);
    if
    :: lock != lock_path && !has_lock -> opening[lock] = 0; goto starting
    :: else
    fi
  };
#endif
#ifdef BUG_STALE
  atomic { MAY_DIE(me); file = path };
#endif
  atomic {
    MAY_DIE(me);
#ifdef BUG_NO_LOCK
    held[lock] = held[lock] | BIT(me);
#else
    if
    :: (held[lock] & ~BIT(me)) == 0 || has_lock -> held[lock] = held[lock] | BIT(me)
    :: else -> LeavesIt(); Die(me); goto gone
    fi
#endif
  };
look:
#ifndef BUG_STALE
  atomic { MAY_DIE(me); file = path };
#endif
  atomic {
    MAY_DIE(me);
    if
    :: file == 0 ->
       if
       :: path == 0 && files < FILES ->
          files++; path = files; file = files; names_lock[file] = lock; space[file] = SPACE_OF(me);
          fresh = file;
          /* All may be lost only when a keeper died, and a mapper before it gave all to another. */
          assert(me != NEXT || (handed == 0 && (registered == 0 || keeper_has_died)));    /* INV-12 */
          if :: me == NEXT -> registered = 0 :: else fi
       :: path == 0 && files == FILES -> Die(me); goto gone
#ifdef BUG_STALE
       :: path != 0 -> Die(me); goto gone
#else
       :: path != 0 -> goto look
#endif
       fi
#ifndef BUG_NO_IDENTITY
#ifndef BUG_ONCE
    :: file != 0 && names_lock[file] != lock && lock != lock_path ->
       held[lock] = held[lock] & ~BIT(me); opening[lock] = 0; file = 0;
       goto starting
#endif
    :: file != 0 && names_lock[file] != lock && IS_LAST_LOOK -> LeavesIt(); Die(me); goto gone
#endif
#ifndef BUG_NO_NAMESPACE
    :: file != 0 && space[file] != SPACE_OF(me) -> LeavesIt(); Die(me); goto gone
#endif
    :: else
    fi
  };
  goto take;

/* NEXT. */
inheriting:
  atomic {
    MAY_DIE(me);
    has_lock = 0; file = 0; lock = 0;
    i = 1;
    do
    :: i > LOCKS -> break
    :: else ->
       if :: held[i] & BIT(me) -> lock = i; has_lock = 1 :: else fi;
       i++
    od;
    /* One that is not superseded, or the only one. */
    i = 1;
    do
    :: i > FILES -> break
    :: i <= FILES && (handed & BIT(i)) && !is_superseded[i] -> file = i; break
    :: else -> i++
    od;
#ifndef BUG_REFUSED
    i = 1;
    do
    :: i > FILES || file != 0 -> break
    :: i <= FILES && file == 0 && (handed & BIT(i)) -> file = i
    :: else -> i++
    od;
#endif
#ifdef BUG_PATH
    file = 0;
#endif
    i = 0;
    if
    :: file == 0 && !has_lock -> goto starting
    :: file == 0 && has_lock -> goto open_lock
    :: file != 0
    fi;
#ifndef BUG_LOCK_NOT_KEPT
    assert(held[names_lock[file]] & BIT(me));                  /* INV-11 */
#endif
#ifdef BUG_OPENING_BY_PATH
    if
    :: lock_path == 0 && locks < LOCKS -> locks++; lock_path = locks
    :: else
    fi;
    lock = lock_path
#else
    lock = names_lock[file]
#endif
  };
#ifndef BUG_UNOPENED
  if
  :: atomic { alive[me] && opening[lock] == 0 -> opening[lock] = me + 1 }
  :: atomic { alive[me] && IS_OF_HOUSE(me) && deaths_left > 0 -> deaths_left--; Die(me); goto gone }
  fi;
#endif

#ifndef BUG_LEFTOVER
  atomic {
    MAY_DIE(me);
    d_step {
      i = 1;
      do
      :: i > FILES -> break
      :: else ->
         if :: (handed & BIT(i)) && i != file -> is_superseded[i] = 1 :: else fi;
         i++
      od;
      i = 0
    }
  };
#endif
#ifndef BUG_LOOKS_LATER
  /* What NEW has put at the path. */
  atomic {
    MAY_DIE(me);
    if
    :: path != 0 && path != file && names_lock[path] == names_lock[file] ->
       is_superseded[path] = 1;
       if :: previous == file -> path = file; previous = 0 :: else fi
    :: else
    fi
  };
#endif

take:
  atomic {
    MAY_DIE(me);
    newest_before = newest;
    Serve(file);
    is_superseded[file] = 0;
    /* INV-12 */
    assert(connections[me] == 0 || (connections[me] & ~live[file]) == 0);
    assert(me != NEXT || handed == 0 || (registered & ~(live[file] | orphans[file])) == 0);
    /* Of the files with this lock it has the one that was written last, if that has a name. */
    assert(me != LATE || path == file || fresh == file ||
           names_lock[newest_before] != names_lock[file] ||
           ((live[newest_before] | orphans[newest_before]) & ~(live[file] | orphans[file])) == 0);
    fresh = 0; newest_before = 0;
    assert(me != LATE || erases_left < ERASES || (registered & ~(live[file] | orphans[file])) == 0)
  };
  MakeOrphan(1);
#if NODES > 1
  MakeOrphan(2);
#endif
  atomic {
    if :: alive[me] && opening[lock] == me + 1 -> opening[lock] = 0 :: else fi;
    lock = names_lock[file]
  };

serving:
end_serving:
  do
  :: atomic { !alive[me] -> goto gone }
  :: atomic { alive[me] && IS_OF_HOUSE(me) && deaths_left > 0 -> deaths_left--; Die(me); goto gone }
  /* Register. */
  :: d_step {
       alive[me] && IS_OF_HOUSE(me) && registered != NODES && IS_SECURE ->
       assert(!SERVED_BY_OTHERS(file, me));
       i = (registered == 0 -> 1 : 2);
       live[file] = live[file] | i; connections[me] = connections[me] | i; registered = registered | i;
       i = 0
     }
  /* Keeps. */
  :: d_step {
       alive[me] && IS_OF_HOUSE(me) && !alive[KEEPER] -> alive[KEEPER] = 1; followed = me
     }
#ifndef BUG_LOCK_NOT_KEPT
  :: d_step {
       alive[me] && IN_STORE(me) && !(held[lock] & BIT(KEEPER)) ->
       held[lock] = held[lock] | BIT(KEEPER)
     }
#endif
  :: d_step {
       alive[me] && IN_STORE(me) && !(kept & BIT(file)) && HAS_LOCK_KEPT -> kept = kept | BIT(file)
     }
  :: d_step {
       alive[me] && IN_STORE(me) && (connections[me] & ~connections[KEEPER]) != 0 && HAS_REGISTRY_KEPT ->
       connections[KEEPER] = connections[me]
     }
  /* Looks at the path. */
  :: atomic { alive[me] && !IS_NAMED(file) && files < FILES ->
       serves[me] = 0; Copy()
     };
#ifndef BUG_COPY_NOT_KEPT
     atomic { MAY_DIE(me); if :: IN_STORE(me) && HAS_LOCK_KEPT -> kept = kept | BIT(fresh) :: else fi };
#endif
#ifndef BUG_COPY_UNMARKED
     atomic { MAY_DIE(me); is_superseded[file] = 1 };
#endif
     atomic { MAY_DIE(me); Name(fresh) };
     atomic {
       MAY_DIE(me);
       i = file;
       file = fresh;
       fresh = 0;
       Serve(file)
     };
#ifndef BUG_COPY_UNMARKED
     atomic { MAY_DIE(me); if :: IN_STORE(me) && (kept & BIT(file)) -> kept = kept & ~BIT(i) :: else fi };
#endif
     i = 0
#if MEND
  /* And at that of the lock. */
  :: atomic {
       alive[me] && lock_path != lock && (lock_path != 0 || locks < LOCKS) &&
       (lock_path == 0 || (opening[lock_path] == 0 && held[lock_path] == 0)) ->
       if :: lock_path == 0 -> locks++; lock_path = locks :: else fi;
       i = lock_path;
       opening[i] = me + 1;
       held[i] = held[i] | BIT(me)
     };
#ifndef BUG_MEND_NOT_KEPT
     atomic { MAY_DIE(me); if :: IN_STORE(me) -> held[i] = held[i] | BIT(KEEPER) :: else fi };
#endif
     atomic { MAY_DIE(me); names_lock[file] = i; lock = i };
     atomic { MAY_DIE(me); opening[lock] = 0; i = 0 }
#endif
#if UPGRADE
  :: d_step {
       alive[me] && me == OLD && !was_upgraded && IS_SECURE ->
       was_upgraded = 1; serves[OLD] = 0;
       alive[NEW] = 1; yours = file; connections[NEW] = connections[OLD]; held[lock] = held[lock] | BIT(NEW)
     };
     goto handing
#endif
  od;

/* OLD waits for the commit, for as long as it likes. */
handing:
  atomic {
    MAY_DIE(me);
    if
    :: is_ready ->
       if
       :: IN_STORE(me) && HAS_LOCK_KEPT && (kept & BIT(file)) -> connections[KEEPER] = connections[me]
       :: else
       fi;
       Die(me); goto gone
    :: !is_ready -> Die(NEW)
    fi
  };
  /* It takes the migration back. */
  atomic { MAY_DIE(me); is_superseded[file] = 0 };
  atomic {
    MAY_DIE(me);
    if
    :: path != 0 && path != file && names_lock[path] == lock ->
       is_superseded[path] = 1;
       if :: previous == file -> path = file :: else fi
    :: else
    fi;
    previous = 0
  };
  atomic { MAY_DIE(me); Serve(file) };
  goto serving;

/* NEW. */
succeeding:
  atomic { MAY_DIE(me); file = yours; lock = names_lock[file] };
  if
  :: skip ->
     /* Migrates, if the one who said that it may still lives. */
     if
     :: atomic { alive[me] && opening[lock] == 0 -> opening[lock] = me + 1 }
     :: atomic { !alive[me] -> goto gone }
     fi;
#ifndef BUG_UNSEEN
     atomic { MAY_DIE(me); if :: !alive[OLD] -> Die(me); goto gone :: else fi };
#endif
     atomic { MAY_DIE(me); assert(!SERVED_BY_OTHERS(file, me)); Copy() }; /* INV-11 */
     atomic {
       MAY_DIE(me);
       if :: path == file -> previous = file :: else fi;
       Name(fresh)
     };
     atomic { MAY_DIE(me); assert(!SERVED_BY_OTHERS(file, me)); is_superseded[file] = 1 };
     atomic { MAY_DIE(me); file = fresh; fresh = 0; opening[lock] = 0 }
  :: skip
  fi;
  /* The commit. */
  atomic { MAY_DIE(me); if :: alive[OLD] -> is_ready = 1 :: !alive[OLD] -> Die(me); goto gone fi };
  /* The store, which may have started another one. */
#ifndef BUG_COPY_NOT_KEPT
  atomic {
    MAY_DIE(me);
    if :: alive[KEEPER] && followed == OLD && HAS_LOCK_KEPT -> kept = kept | BIT(file) :: else fi
  };
#endif
  atomic {
    MAY_DIE(me);
    if
    :: alive[KEEPER] && followed == OLD -> followed = NEW
    :: followed != OLD -> Die(me); goto gone /* It has been told that it is too late. */
    :: !alive[KEEPER] && followed == OLD
    fi
  };
  atomic { MAY_DIE(me); Serve(file); is_superseded[yours] = (yours != file) };
  atomic {
    MAY_DIE(me);
    if :: IN_STORE(me) && (kept & BIT(file)) && yours != file -> kept = kept & ~BIT(yours) :: else fi;
    previous = 0
  };
  goto serving;

gone:
  skip;
  d_step { file = 0; lock = 0; fresh = 0; i = 0; has_lock = 0 };
  if :: me == NEXT -> goto end_idle :: else fi
}

proctype Keeper() {
  byte dying;
end:
  do
  :: atomic { alive[KEEPER] && deaths_left > 0 -> deaths_left--; Die(KEEPER) }
  :: d_step {
       alive[KEEPER] && followed != NOBODY && !alive[followed] && !alive[NEXT] ->
       followed = NEXT;
       alive[NEXT] = 1; connections[NEXT] = connections[KEEPER]; handed = kept;
       dying = 1;
       do
       :: dying > LOCKS -> break
       :: else ->
          if :: held[dying] & BIT(KEEPER) -> held[dying] = held[dying] | BIT(NEXT) :: else fi;
          dying++
       od;
       dying = 0
     }
  od
}

/* Cleaners of temporary files, logouts, people. */
proctype Eraser() {
end:
  do
  :: d_step { erases_left > 0 && path != 0 -> path = 0; erases_left-- }
  :: d_step { erases_left > 0 && lock_path != 0 -> lock_path = 0; erases_left-- }
  :: d_step { erases_left > 0 && previous != 0 -> previous = 0; erases_left-- }
  od
}

/* When nothing more happens. */
#define IS_FINE(who) (!serves[who] || IS_NAMED(serves[who]) || files == FILES)
proctype End() {
  timeout;
  assert(IS_FINE(OLD) && IS_FINE(NEW) && IS_FINE(NEXT) && IS_FINE(B) && IS_FINE(LATE));  /* INV-12 */
  /* As long as the keeper lives, a mapper of the house serves. */
  assert(!alive[KEEPER] || serves[OLD] || serves[NEW] || serves[NEXT])
}

init {
  d_step {
    names_lock[1] = 1; held[1] = BIT(OLD); alive[OLD] = 1; alive[KEEPER] = 1;
    serves[OLD] = 1; newest = 1
  };
  atomic {
    run Mapper(OLD); run Mapper(NEXT); run Keeper(); run Eraser(); run End();
    if :: UPGRADE -> run Mapper(NEW) :: else fi;
    if :: WITH_B -> run Mapper(B) :: else fi;
    if :: WITH_LATE -> run Mapper(LATE) :: else fi
  }
}
