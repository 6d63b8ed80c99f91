/*
 * The conversation of an upgrade (daemon/upgrade.h), with the keeper as the store (daemon/keeper.cc):
 * OLD hands over to NEW, which it has started; any of the three may die at any step, at most DEATHS
 * of them. A keeper that loses its mapper starts NEXT.
 *
 *   here      there
 *   Old       Upgrade::Begin, Continue, HandOver, Cancel; Mapper::Serve, Leave
 *   New       Succession; Mapper::Start; Store::TakeOver
 *   Keeper    Keeper::OnLink, OnMessage, OnMapperEnd, StartMapper
 *   messages  upgrade.h; READY to OLD is the commit, MAINPID the one to the keeper
 *
 * A message is not lost, but nothing can be sent to who is dead. Who waits learns that the other
 * one is dead after all that it said; a timeout may come at any time. Connection C was registered
 * before; L registers with a request that OLD has accepted, after the commit.
 *
 * Checked:
 *   INV-8   as long as one of them lives, one that lives has the listening sockets open
 *   INV-10  OLD gives nothing up before the commit: when there is none, it serves again, with all;
 *           nothing is left behind after it: who serves in the end has C and, if it is NEW, L
 *   alone   OLD writes to the registry neither while NEW may (it may be migrating it), nor beside
 *           a mapper that the keeper has started
 *   end     as long as the keeper lives, or OLD and NEW both do, somebody serves in the end
 *
 * Seeded bugs, which must be found: BUG_EARLY_CLOSE (OLD closes its sockets before the commit),
 * BUG_RESUME (OLD serves on after a commit), BUG_NO_KILL (OLD serves again while NEW lives),
 * BUG_UNHEARD (a commit said just when time was up is not listened to), BUG_NOT_TOLD (NEW serves
 * though the keeper starts another).
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
bool keeper_reads = 1;    /* of the link to the mapper */
bool is_too_late;         /* the keeper has said so there */

bool alive[4];
byte deaths;
bool listens[4];          /* has the listening sockets open */
bool serves[4];           /* accepts from them, and writes to the registry */
bool owns_registry;       /* NEW does: OLD has said so */
bool has_c[4];            /* holds connection C */
bool has_l[4];
bool l_is_passed;
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
  :: d_step { alive[who] && deaths < DEATHS -> deaths++ }; Die(who); goto gone \
  :: alive[who]                                                            \
  fi
#define SEND(from, to, channel, message, otherwise)                        \
  if                                                                       \
  :: atomic { alive[from] && alive[to] -> channel ! message }              \
  :: alive[from] && !alive[to] -> otherwise                                \
  :: !alive[from] -> goto gone                                             \
  fi

proctype Old() {
  mtype said;
  /* Continue: waits for PREPARED. */
  do
  :: to_old ? said -> break
  :: !alive[NEW] && empty(to_old) -> goto failed
  :: true -> goto failed
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
  :: true -> goto failed
  od;

failed:
  STEP(OLD);
#ifndef BUG_NO_KILL
  /* HowItEnded: kills it, and waits for its end. */
  Die(NEW);
#endif
  STEP(OLD);
#ifndef BUG_UNHEARD
  /* What it had said before counts. */
  do
  :: to_old ? said -> if :: said == READY -> goto leave :: else fi
  :: empty(to_old) -> break
  od;
#endif
  STEP(OLD);
  /* Restore, ResumeWorkers. */
  assert(listens[OLD] && has_c[OLD]); /* INV-10 */
  d_step { is_link_open = 0; serves[OLD] = 1 };
  goto gone;

leave:
  STEP(OLD);
#ifdef BUG_RESUME
  serves[OLD] = 1;
#endif
  /* Drain: what was accepted is still answered. StoreNew: Pass() and the store. */
  has_l[OLD] = 1;
  STEP(OLD);
  if :: alive[KEEPER] && keeper_reads -> has_l[KEEPER] = 1 :: else fi;
  /* Had it died before, L would be an orphan (custody.h). */
  if
  :: atomic { alive[OLD] && alive[NEW] -> to_new ! LATE; l_is_passed = 1 }
  :: !alive[NEW]
  :: !alive[OLD] -> goto gone
  fi;
  STEP(OLD);
  /* AwaitServing. */
  do
  :: to_old ? said -> if :: said == SERVING -> break :: else fi
  :: !alive[NEW] && empty(to_old) -> break
  :: true -> break
  od;
  skip;
  Die(OLD);
gone:
  skip
}

proctype New() {
  mtype said;
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
  STEP(NEW);
  /* Succession::Commit. */
  SEND(NEW, OLD, to_old, READY, goto ends);
  STEP(NEW);
  /* Store::TakeOver. */
  if
  :: atomic { alive[NEW] && alive[KEEPER] && keeper_reads -> to_keeper ! MAINPID }
#ifdef BUG_NOT_TOLD
  :: alive[NEW] && !keeper_reads
#else
  :: alive[NEW] && !keeper_reads && is_too_late -> goto ends
#endif
  :: alive[NEW] && !alive[KEEPER] && !is_too_late
  :: !alive[NEW] -> goto gone
  fi;
  STEP(NEW);
  d_step { if :: alive[NEW] -> serves[NEW] = 1 :: else fi };
  STEP(NEW);
  SEND(NEW, OLD, to_old, SERVING, skip);
  /* TakeLate. */
  do
  :: to_new ? said -> d_step { if :: said == LATE && alive[NEW] -> has_l[NEW] = 1 :: else fi }
  :: (!alive[OLD] || !alive[NEW]) && empty(to_new) -> goto gone
  od;
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
  :: d_step { alive[KEEPER] && deaths < DEATHS -> deaths++ }; Die(KEEPER); goto gone
  :: followed != NOBODY && !alive[followed] && empty(to_keeper) ->
     /* OnMapperEnd. Whoever has not said by now that it is the mapper is told that it is too late. */
     keeper_reads = 0;
     STEP(KEEPER);
     if
     :: to_keeper ? said -> Die(NEW)
     :: empty(to_keeper)
     fi;
     STEP(KEEPER);
     is_too_late = 1;
     STEP(KEEPER);
     /* StartMapper. NEXT has what the keeper holds from its first moment on. */
     d_step {
       followed = NOBODY;
       alive[NEXT] = 1; listens[NEXT] = 1; has_c[NEXT] = has_c[KEEPER]; serves[NEXT] = 1
     }
  od;
gone:
  skip
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
  assert(!serves[NEW] || (has_c[NEW] && (has_l[NEW] || !l_is_passed)));
  assert(!serves[NEXT] || has_c[NEXT])
}

init {
  d_step {
    alive[OLD] = 1; listens[OLD] = 1; serves[OLD] = 1; has_c[OLD] = 1;
    alive[NEW] = 1; listens[NEW] = 1;
    alive[KEEPER] = 1; listens[KEEPER] = 1; has_c[KEEPER] = 1
  };
  atomic { run Old(); run New(); run Keeper(); run Watch(); run End() }
}
