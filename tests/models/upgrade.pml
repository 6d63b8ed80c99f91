/*
 * The conversation of an upgrade (daemon/process/predecessor.h), with the keeper as the store (daemon/process/keeper.cc):
 * OLD hands over to NEW, which it has started; any of them may die at any step, at most DEATHS of
 * them, and NEW may hang until it has told the keeper. A keeper that loses its mapper starts NEXT,
 * and a mapper that loses its keeper starts another.
 *
 *   here      there
 *   Old       Predecessor::Begin, Continue, HandOver, Cancel; Mapper::Serve, Leave, TakeNew
 *   New       Successor; Mapper::Start; Store::AnnounceMapper
 *   Keeper    Keeper::ReadLink, OnMessage, OnMapperEnd, StartMapper; Mapper::PlanKeeper, ReplaceKeeper
 *   messages  custody/words.h; READY to OLD is the commit, MAINPID the one to the keeper
 *
 * A message is not lost, but nothing can be sent to who is dead. Who waits learns that the other
 * one is dead after all that it said; a timeout may come at any time. Connection C was registered
 * before, perhaps so lately that it is not stored yet (kGatherMs); L registers with a request that
 * OLD has accepted, after the commit. Their nodes stay.
 *
 * Checked, as assertions:
 *   INV-8   as long as one of them lives, one that lives has the listening sockets open
 *   INV-10  OLD gives nothing up before the commit: when there is none, it serves again, with all;
 *           nothing is left behind after it: who serves in the end has C, if it was stored, and L,
 *           or has made it an orphan
 *   alone   OLD writes to the registry neither while NEW may (it may be migrating it), nor beside
 *           a mapper that the keeper has started
 *   end     as long as the keeper lives, or OLD and NEW both do, somebody serves in the end
 * and as formulas, at the end of this file, what goes on for ever.
 *
 * Seeded bugs, which must be found: BUG_EARLY_CLOSE (OLD closes its sockets before the commit),
 * BUG_RESUME (OLD serves on after a commit), BUG_NO_KILL (OLD serves again while NEW lives),
 * BUG_UNHEARD (a commit said just when time was up is not listened to), BUG_NOT_TOLD (NEW serves
 * though the keeper starts another), BUG_UNWATCHED (nobody looks for what OLD has registered and not
 * passed on); and those that only a formula finds.
 */
#ifndef DEATHS
#define DEATHS 2
#endif

mtype = { PREPARED, FDS, YOURS, READY, SERVING, LATE, MAINPID };

#define OLD 0
#define NEW 1
#define NEXT 2
#define KEEPER 3
#define NOBODY 4

chan to_old = [4] of { mtype };
chan to_new = [4] of { mtype };
chan to_keeper = [2] of { mtype };
bool is_link_open = 1;    /* OLD's end of the one to NEW */
bool keeper_reads = 1;    /* of the link to the mapper, which OLD and NEW share */
bool keeper_has_died;     /* the one at that link */
bool is_too_late;         /* the keeper has said so there */

bool alive[4];
byte deaths_left;
bool nobody_dies;         /* but of the upgrade itself */
bool listens[4];          /* has the listening sockets open */
bool serves[4];           /* accepts from them, and writes to the registry */
bool owns_registry;       /* NEW does: OLD has said so */
bool has_c[4];            /* holds connection C */
bool has_l[4];
bool c_was_stored;
bool l_is_registered;
bool l_is_orphan;
byte followed = OLD;      /* whom the keeper takes for the mapper */

/* Dying, or being killed, is closing everything. */
inline Die(who) {
  d_step {
    alive[who] = 0; listens[who] = 0; serves[who] = 0; has_c[who] = 0; has_l[who] = 0;
    if :: who == NEW -> owns_registry = 0 :: else fi
  }
}
/* Between any two steps. A process that somebody else has killed goes no further. */
#define STEP(who)                                                          \
  if                                                                       \
  :: !alive[who] -> goto gone                                              \
  :: d_step { alive[who] && deaths_left > 0 -> deaths_left-- }; Die(who); goto gone \
  :: alive[who]                                                            \
  fi
#define SEND(from, to, channel, message, otherwise)                        \
  if                                                                       \
  :: atomic { alive[from] && alive[to] -> channel ! message }              \
  :: alive[from] && !alive[to] -> otherwise                                \
  :: !alive[from] -> goto gone                                             \
  fi

#define MAY_DIE() if :: true :: d_step { deaths_left > 0 -> deaths_left-- }; goto gone fi
/* StoreNew, of OLD. */
#define STORE_C()                                                                  \
  d_step {                                                                         \
    if                                                                             \
    :: alive[OLD] && alive[KEEPER] && keeper_reads -> has_c[KEEPER] = 1; c_was_stored = 1 \
    :: else                                                                        \
    fi                                                                             \
  }
/* NEW goes on, or does nothing more. */
#define OR_HANG() if :: true :: true -> goto end_hung fi

proctype Old() {
  mtype said;
  /* Continue: waits for PREPARED, and serves. */
  do
  :: to_old ? said -> break
  :: !alive[NEW] && empty(to_old) -> goto failed
#ifdef BUG_UNPREPARED
  :: true -> skip
#else
  :: true -> goto failed
#endif
  :: alive[OLD] && !c_was_stored && keeper_reads -> STORE_C()
  od;
  STEP(OLD);
  /* HandOver. */
  SEND(OLD, NEW, to_new, FDS, goto failed);
  STEP(OLD);
#ifdef BUG_EARLY_CLOSE
  d_step { listens[OLD] = 0; has_c[OLD] = 0 };
#endif
  serves[OLD] = 0;
  STEP(OLD);
  SEND(OLD, NEW, to_new, YOURS, goto failed);
  STEP(OLD);
  do
  :: to_old ? said -> if :: said == READY -> goto leave :: else fi
  :: !alive[NEW] && empty(to_old) -> goto failed
#ifdef BUG_PATIENT
  :: true -> skip
#else
  :: true -> goto failed
#endif
  od;

failed:
  STEP(OLD);
#ifndef BUG_NO_KILL
  /* HowItEnded: kills it, and waits for its end. */
  Die(NEW);
#endif
  STEP(OLD);
#ifndef BUG_UNHEARD
  /* What it had said before counts. The keeper may have heard of it and listen to NEXT only. */
  do
  :: to_old ? said -> if :: said == READY -> nobody_dies = 0; goto leave :: else fi
  :: empty(to_old) -> break
  od;
#endif
  STEP(OLD);
  /* Restore, ResumeWorkers. */
  assert(listens[OLD] && has_c[OLD]); /* INV-10 */
  d_step { is_link_open = 0; serves[OLD] = 1 };
  STEP(OLD);
  STORE_C();
  /* For as long as it lives. */
end:
  if
  :: !alive[OLD] -> goto gone
  :: d_step { alive[OLD] && deaths_left > 0 -> deaths_left-- }; Die(OLD); goto gone
  fi;

leave:
  STEP(OLD);
#ifdef BUG_RESUME
  serves[OLD] = 1;
#endif
  STORE_C();
  STEP(OLD);
  /* AwaitServing, while the workers drain: what was accepted is still answered. */
  do
  :: to_old ? said -> if :: said == SERVING -> break :: else fi
  :: !alive[NEW] && empty(to_old) -> break
  :: true -> break
  od;
  STEP(OLD);
  d_step { if :: alive[OLD] -> has_l[OLD] = 1; l_is_registered = 1 :: else fi };
  STEP(OLD);
#ifdef BUG_IMPATIENT
  if :: l_is_orphan -> Die(OLD); goto gone :: else fi;
#endif
#ifndef BUG_FORGOTTEN
  /* StoreNew, when the workers have ended: Pass() and the store. */
  if
  :: atomic { alive[OLD] && alive[NEW] -> to_new ! LATE }
  :: !alive[NEW]
  :: !alive[OLD] -> goto gone
  fi;
  STEP(OLD);
  d_step { if :: alive[OLD] && alive[KEEPER] && keeper_reads -> has_l[KEEPER] = 1 :: else fi };
  STEP(OLD);
#endif
  Die(OLD);
gone:
  skip
}

proctype New() {
  mtype said;
  OR_HANG();
  STEP(NEW);
  SEND(NEW, OLD, to_old, PREPARED, goto ends);
  do
  :: to_new ? said ->
     if
     :: said == YOURS -> break
     :: said == FDS && alive[NEW] -> has_c[NEW] = 1
     :: !alive[NEW] -> goto gone
     fi
  :: (!alive[OLD] || !is_link_open) && empty(to_new) -> goto ends
  :: true -> goto ends
  od;
  STEP(NEW);
  /* Opens the registry, and migrates it. */
  d_step { if :: alive[NEW] -> owns_registry = 1 :: else fi };
  OR_HANG();
  STEP(NEW);
  /* Successor::Commit. */
  SEND(NEW, OLD, to_old, READY, goto ends);
  OR_HANG();
  STEP(NEW);
  /* Store::AnnounceMapper. */
  if
  :: atomic { alive[NEW] && keeper_reads -> to_keeper ! MAINPID }
#ifdef BUG_NOT_TOLD
  :: alive[NEW] && !keeper_reads
#else
  :: alive[NEW] && !keeper_reads && is_too_late -> goto ends
#endif
  :: alive[NEW] && keeper_has_died && !is_too_late
  :: !alive[NEW] -> goto gone
  fi;
  STEP(NEW);
  d_step { if :: alive[NEW] -> serves[NEW] = 1 :: else fi };
  STEP(NEW);
  SEND(NEW, OLD, to_old, SERVING, skip);
  /* TakeLate. */
  do
  :: atomic {
       to_new ? said ->
       if :: said == LATE && alive[NEW] -> has_l[NEW] = 1; l_is_orphan = 0 :: else fi
     }
  :: (!alive[OLD] || !alive[NEW]) && empty(to_new) -> goto gone
  od;
end_hung:
  !alive[NEW];
  goto gone;
ends:
  Die(NEW);
gone:
  skip
}

proctype Keeper() {
  mtype said;
end:
  do
  :: to_keeper ? said -> followed = NEW
  :: d_step { alive[KEEPER] && deaths_left > 0 -> deaths_left-- }; goto gone
  :: followed != NOBODY && !alive[followed] && empty(to_keeper) ->
     /* OnMapperEnd. Whoever has not said by now that it is the mapper is told that it is too late. */
     keeper_reads = 0;
     MAY_DIE();
     if
     :: to_keeper ? said -> Die(NEW)
     :: empty(to_keeper)
     fi;
     MAY_DIE();
     is_too_late = 1;
     MAY_DIE();
     /* StartMapper. NEXT has what the keeper holds from its first moment on. */
     d_step {
       followed = NEXT;
       alive[NEXT] = 1; listens[NEXT] = 1; has_c[NEXT] = has_c[KEEPER]; has_l[NEXT] = has_l[KEEPER];
       serves[NEXT] = 1
     }
  od;
gone:
  skip;
  d_step {
    alive[KEEPER] = 0; listens[KEEPER] = 0; has_c[KEEPER] = 0; has_l[KEEPER] = 0;
    keeper_reads = 0; keeper_has_died = 1;
    do :: nempty(to_keeper) -> to_keeper ? said :: empty(to_keeper) -> break od
  };
  /* OnStoreLink, ReplaceKeeper: a mapper that serves starts another, and has it hold all. OLD gives
     an upgrade up that is under way. */
end_without:
  if
  :: d_step { serves[OLD] && !is_link_open -> followed = OLD }
  :: d_step { serves[NEW] -> followed = NEW }
  :: d_step { serves[NEXT] -> followed = NEXT }
  fi;
  d_step {
    if
    :: alive[followed] ->
       alive[KEEPER] = 1; listens[KEEPER] = 1;
       has_c[KEEPER] = has_c[followed]; has_l[KEEPER] = has_l[followed]
    :: else
    fi
  };
  if :: alive[KEEPER] -> goto end :: else -> goto end_without fi
}

/* NEXT serves for as long as it lives. */
proctype Fate() {
end:
  do
  :: d_step { alive[NEXT] && deaths_left > 0 -> deaths_left-- }; Die(NEXT)
  od
}

/* CheckUnwatched: NEW looks when the link to OLD has ended, NEXT at any moment. */
proctype Check() {
#ifndef BUG_UNWATCHED
end:
  do
  :: d_step {
       l_is_registered && !l_is_orphan &&
#ifdef BUG_IMPATIENT
       ((serves[NEW] && !has_l[NEW]) ||
#else
       ((serves[NEW] && !has_l[NEW] && !alive[OLD] && empty(to_new)) ||
#endif
        (serves[NEXT] && !has_l[NEXT])) -> l_is_orphan = 1
     }
  od
#else
  skip
#endif
}

/* At any moment. */
proctype Watch() {
end:
  if
  :: d_step {
       (alive[OLD] || alive[NEW] || alive[NEXT] || alive[KEEPER]) &&
       !(listens[OLD] || listens[NEW] || listens[NEXT] || listens[KEEPER]) -> assert(false)
     } /* INV-8 */
  :: d_step { serves[OLD] && (owns_registry || serves[NEXT]) -> assert(false) }
  :: d_step { serves[NEW] && serves[NEXT] -> assert(false) }
  fi
}

/* When nothing more happens. */
proctype End() {
  timeout;
  if
  :: alive[KEEPER] || (alive[OLD] && alive[NEW]) ->
     assert(serves[OLD] || serves[NEW] || serves[NEXT])
  :: else
  fi;
  assert(!serves[OLD] || has_c[OLD]);
  assert(!serves[NEW] || has_c[NEW]);
  assert(!serves[NEXT] || has_c[NEXT] || !c_was_stored);
  assert(!(serves[NEW] || serves[NEXT]) || !l_is_registered || l_is_orphan ||
         (serves[NEW] && has_l[NEW]) || (serves[NEXT] && has_l[NEXT]))
}

init {
  d_step {
    alive[OLD] = 1; listens[OLD] = 1; serves[OLD] = 1; has_c[OLD] = 1;
    alive[NEW] = 1; listens[NEW] = 1;
    alive[KEEPER] = 1; listens[KEEPER] = 1
  };
  if
  :: d_step { has_c[KEEPER] = 1; c_was_stored = 1 }
  :: true
  fi;
  do :: deaths_left < DEATHS -> deaths_left++ :: break od;
  nobody_dies = (deaths_left == 0);
  atomic { run Old(); run New(); run Keeper(); run Fate(); run Check(); run Watch(); run End() }
}

/* Whoever is able to go on does so at some time (weak fairness); a hung process is not. */
#define SOMEBODY_SERVES (serves[OLD] || serves[NEW] || serves[NEXT])
#define HELD(has) (has[OLD] || has[NEW] || has[NEXT] || has[KEEPER])

/* P3: requests never wait for ever, whoever dies or hangs, unless all die who could help.
   BUG_PATIENT: OLD, whose workers pause, waits for the commit as long as NEW lives. */
ltl serving { [] <> (SOMEBODY_SERVES || !(alive[OLD] || alive[KEEPER])) }

/* An upgrade ends: OLD is gone, or it serves and another may begin. BUG_UNPREPARED: the same wait
   for PREPARED, while OLD serves. */
ltl over { <> [] (!alive[OLD] || (serves[OLD] && !is_link_open)) }

/* When nobody dies but NEW before it has committed, each registered connection is held by somebody
   at any moment, and by the store in the end. BUG_FORGOTTEN: OLD stores no more when its workers
   have ended. BUG_IMPATIENT: NEW makes an orphan of what OLD has yet to pass on, and OLD passes on no
   orphans. */
ltl kept {
  [] (nobody_dies ->
      HELD(has_c) && (!l_is_registered || HELD(has_l)) &&
      <> (!nobody_dies || (has_c[KEEPER] && (!l_is_registered || has_l[KEEPER]))))
}
