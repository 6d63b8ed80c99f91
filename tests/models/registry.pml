/*
 * The registry's algorithm (registry/): writers, readers, a crash at any step, recovery.
 *
 * Every access to shared memory is one step; between any two steps anybody else may go on. Writer 1
 * may die after each of its changes (dying between others looks the same to the rest). One bucket,
 * since buckets share nothing but the slab. The clock stands still, as that is worst for creations.
 *
 *   here             there
 *   Search           ChainWalk<Segment>, Writer::Find               chain.h, writer.cc
 *   Register         Writer::Register, Prepare, Fill, MakeLive      writer.cc
 *   Claim            Slab: Claim, FindOldest, ClaimFree, Retire     slab.cc
 *   TakeOff, OnChain TakeOffChain, FindOnChain                      chain.cc
 *   End              Depart                                         writer.cc
 *   Orphan, Adopt    the same, with ClaimForAmendment, EndAmendment writer.cc, recovery.cc
 *   Settle           Settle, PutBack                                recovery.cc
 *   Reader           ChainWalk<const Segment>, Lookup, CopyRecord   reader.cc
 *   Opener           Registry::Open, SettleAll                      registry.cc, recovery.cc
 *
 * Left out: amending (as adopting, but from live), departures, occupancy and blocks (extents.pml), and the
 * bounds of all loops (kRestartsMax), which are for damaged segments.
 *
 * Checked, as assertions:
 *   INV-1  a lookup returns one registration whole, and finds what is live all the while
 *   INV-2  one registration for each name
 *   INV-3  after a crash and recovery all is settled, and names can be registered
 *   INV-4  an operation on an id touches no other registration
 *   INV-5  creations of a name grow
 * and as formulas, at the end of this file, that all comes to an end.
 *
 * Two records, which hold names 1 and 2 in any states to begin with; name 3 takes one over. Sizes
 * (tools/project/model): OPS_1 and OPS_2 of the two writers, READERS, CRASH, STALL, and ACTS, a mask of what
 * writers do. Seeded bugs, which must be found: BUG_VERSION, BUG_MARK, BUG_FLOOR, BUG_HEAD,
 * BUG_STATE_CHECK, BUG_SETTLE, BUG_SETTLE_ONCE; and those that only a formula finds.
 */
#define RECORDS 2
#define NAMES 3
#define WRITERS 2
#ifndef OPS_1
#define OPS_1 1
#endif
#ifndef OPS_2
#define OPS_2 1
#endif
#ifndef READERS
#define READERS 1
#endif
#ifndef CRASH
#define CRASH 1
#endif
/* The writer that may stop for ever, alive, after each of its changes: a stopped process. 0: none */
#ifndef STALL
#define STALL 0
#endif
/* 1 register, 2 unregister, 4 orphan, 8 adopt */
#ifndef ACTS
#define ACTS 3
#endif

/* layout.h: kinds of state; owned ones carry their owner. */
#define FREE 0
#define CLAIMED 1
#define RETIRING 2
#define LIVE 3
#define ORPHANED 4
#define ADOPTING 5
#define REMEMBERED 6
#define IS_OWNED(k) ((k) == CLAIMED || (k) == RETIRING || (k) == ADOPTING)
#define IS_FOUND(k) ((k) == LIVE || (k) == ORPHANED || (k) == ADOPTING)

/* L-1: a state word is {version, owner, kind}; each change raises the version. */
#define KIND(s) ((s) & 7)
#define OWNER(s) (((s) >> 3) & 7)
#ifdef BUG_VERSION
#define NEXT(s, kind, owner) (((owner) << 3) | (kind))
#else
#define NEXT(s, kind, owner) (((((s) >> 6) + 1) << 6) | ((owner) << 3) | (kind))
#endif

/* L-4: a link is {index + 1, tag, mark}; each change raises the tag. */
#define IS_MARKED(l) ((l) & 1)
#define IS_END(l) (((l) >> 8) == 0)
#define INDEX(l) (((l) >> 8) - 1)
#define LIKE(target, old, mark) (((target) & 32512) | (((old) + 2) & 254) | (mark))
#define TO(index, old) LIKE(((index) + 1) << 8, old, 0)

/* Word RECORDS is the head of the chain, so that an anchor is an index. */
#define HEAD RECORDS
short link[RECORDS + 1];
short state[RECORDS];
byte name[RECORDS];
byte id[RECORDS];
byte text[RECORDS];     /* stands for all other words: the same number as the id */
byte creation[RECORDS];
byte conn[RECORDS];
byte next_id;
byte creation_floor = 1;

/* Writers' places (registry/writer_place.h): the kernel's knowledge of who lives. */
#define PLACES (WRITERS + 2)
bool dead[PLACES];
byte writers_done;
bool is_done[PLACES];

/* What is true, for the checks only: changed in the same step as what makes it true. */
byte live_id[NAMES + 1];
byte epoch[NAMES + 1];
byte creation_last[NAMES + 1];

/* Where a writer may die. */
#if STALL
#define DIE if :: is_mortal -> goto dying :: may_stall -> goto end_stalled :: true fi
#else
#define DIE if :: is_mortal -> goto dying :: true fi
#endif
/* One compare-and-swap, and one store. */
#define CAS(word, old, new, ok) \
  d_step { if :: word == (old) -> word = (new); ok = 1 :: else -> ok = 0 fi }; \
  if :: ok -> DIE :: else fi
#define STORE(word, value) word = (value); DIE

inline BecameLive(i) {
  /* INV-2, INV-5 */
  assert(live_id[name[i]] == 0);
  assert(creation[i] > creation_last[name[i]]);
  creation_last[name[i]] = creation[i];
  live_id[name[i]] = id[i];
  epoch[name[i]]++
}
inline BecameEnded(i, wanted) {
  /* INV-4 */
  assert(id[i] == wanted && live_id[name[i]] == wanted);
  live_id[name[i]] = 0;
  epoch[name[i]]++
}

/* Variables of a writer. */
#define WRITER_LOCALS                                                                    \
  bool is_mortal, may_stall;                                                             \
  byte result, at_name, seen_id, want_id, slot;                                          \
  byte anchor, i, fresh, target, settling, wanted_cre;                                   \
  short av, hv, at, nx, st, owned, old;                                                  \
  bool ok, done, changed

/* result of Search */
#define ABSENT 0
#define FOUND_REMEMBERED 1
#define TAKEN 2
#define CHANGED 3

/* A walk takes marked records off the chain as it meets them; `done`: past the marked ones. */
inline PassMarked() {
  changed = 0; done = 0;
  do
  :: done || changed -> break
  :: else ->
     if
     :: IS_END(at) -> done = 1
     :: else ->
        i = INDEX(at);
        nx = link[i];
        if
        :: IS_MARKED(nx) ->
           d_step {
             if
             :: link[anchor] == av ->
                av = LIKE(nx, av, 0); link[anchor] = av; at = av;
                if :: anchor == HEAD -> hv = av :: else fi
             :: else -> changed = 1
             fi
           };
           DIE
        :: else -> done = 1
        fi
     fi
  od
}
/* From a record to the next link: the one that led here must be unchanged (L-6). */
inline Step() {
  if
  :: link[anchor] != av -> changed = 1
  :: else -> d_step { changed = 0; anchor = i; av = nx; at = nx }
  fi
}

/* Whether `target` is on the chain: ok. */
inline OnChain() {
  do
  :: d_step { anchor = HEAD; av = link[HEAD]; at = av; ok = 0 };
     do
     :: PassMarked();
        if
        :: changed -> break
        :: else ->
           if
           :: IS_END(at) -> break
           :: else ->
              if
              :: i == target && link[anchor] == av -> ok = 1; break
              :: else -> Step(); if :: changed -> break :: else fi
              fi
           fi
        fi
     od;
     if :: changed -> skip :: else -> break fi
  od;
  skip
}

/* REQUIRES: `target` is the caller's, retiring. */
inline TakeOff() {
#ifndef BUG_MARK
  do
  :: old = link[target];
     if
     :: IS_MARKED(old) -> break
     :: else ->
        CAS(link[target], old, LIKE(old, old, 1), ok);
        if :: ok -> break :: else fi
     fi
  od;
#endif
  OnChain()
}

/* L-11: it may have been unregistered meanwhile. */
inline EndAdoption(kind) {
  CAS(state[target], owned, NEXT(owned, kind, 0), ok);
  if
  :: !ok -> 
     owned = state[target];
     if
     :: KIND(owned) == CLAIMED && OWNER(owned) == me ->
        CAS(state[target], owned, NEXT(owned, REMEMBERED, 0), changed)
     :: else
     fi
  :: else
  fi
}

/* Takes record `settling`, seen in owned state `st`, over from a dead owner. */
inline Settle() {
  target = settling;
  old = st;
#ifdef BUG_SETTLE
  /* Without becoming the owner first. */
  owned = old; ok = 1;
#else
  owned = NEXT(old, KIND(old), me);
  CAS(state[target], old, owned, ok);
#endif
  if
  :: ok && KIND(old) == CLAIMED ->
     OnChain();
     if
     :: ok -> CAS(state[target], owned, NEXT(owned, REMEMBERED, 0), ok)
     :: else -> CAS(state[target], owned, NEXT(owned, FREE, 0), ok)
     fi
  :: ok && KIND(old) == RETIRING ->
     TakeOff();
     CAS(state[target], owned, NEXT(owned, FREE, 0), ok)
  :: ok && KIND(old) == ADOPTING -> EndAdoption(ORPHANED)
  :: else
  fi
}

inline Search() {
  d_step { anchor = HEAD; av = link[HEAD]; hv = av; at = av; result = 255 };
  do
  :: result != 255 -> break
  :: else ->
     PassMarked();
     if
     :: changed -> result = CHANGED
     :: else ->
        if
        :: IS_END(at) -> result = ABSENT
        :: else ->
           st = state[i];
           if
           :: name[i] != at_name || KIND(st) == RETIRING ->
              Step(); if :: changed -> result = CHANGED :: else fi
           :: else ->
              if
              :: KIND(st) == REMEMBERED -> slot = i; result = FOUND_REMEMBERED
              :: else ->
                 slot = i;
                 if
                 :: state[slot] != st -> result = CHANGED
                 :: else ->
                    if
                    :: link[anchor] != av -> result = CHANGED
                    :: IS_FOUND(KIND(st)) && link[anchor] == av -> result = TAKEN
                    :: KIND(st) == CLAIMED && link[anchor] == av ->
                       if
                       :: dead[OWNER(st)] -> settling = slot; Settle(); result = CHANGED
#ifdef BUG_WAIT
                       :: else -> result = CHANGED
#else
                       :: else -> result = TAKEN
#endif
                       fi
                    :: KIND(st) == FREE && link[anchor] == av -> result = CHANGED
                    fi
                 fi
              fi
           fi
        fi
     fi
  od
}

/* A record in state claimed and off the chain: fresh; RECORDS: there is none. */
inline Claim() {
  fresh = RECORDS;
  settling = 0;
  do
  :: settling == RECORDS -> break
  :: else ->
     st = state[settling];
     if
     :: KIND(st) == FREE ->
        CAS(state[settling], st, NEXT(st, CLAIMED, me), ok);
        if :: ok -> fresh = settling; break :: else fi
     :: KIND(st) == REMEMBERED ->
        wanted_cre = creation[settling];
        if
        :: state[settling] == st ->
#ifndef BUG_FLOOR
           d_step { if :: creation_floor <= wanted_cre -> creation_floor = wanted_cre + 1 :: else fi };
           DIE;
#endif
           target = settling;
           owned = NEXT(st, RETIRING, me);
           CAS(state[target], st, owned, ok);
           if
           :: ok ->
              TakeOff();
              CAS(state[target], owned, NEXT(owned, CLAIMED, me), ok);
              fresh = target;
              break
           :: else
           fi
        :: else
        fi
     :: IS_OWNED(KIND(st)) ->
        if :: dead[OWNER(st)] -> Settle() :: else fi
     :: else
     fi;
     settling++
  od
}

inline Fill(i_) {
  d_step { next_id++; seen_id = next_id };
  DIE;
  STORE(id[i_], seen_id);
  STORE(creation[i_], wanted_cre);
  STORE(text[i_], seen_id)
}

/* done: 1 registered, and then slot and seen_id are of it. */
inline Register() {
  fresh = RECORDS;
  do
  :: Search();
     if
     :: result == TAKEN -> result = 0; break
     :: result == CHANGED -> skip
     :: result == FOUND_REMEMBERED ->
        CAS(state[slot], st, NEXT(st, CLAIMED, me), ok);
        if
        :: ok ->
           wanted_cre = creation[slot] + 1;
           Fill(slot);
           d_step { BecameLive(slot); state[slot] = NEXT(state[slot], LIVE, 0) };
           DIE;
           if :: fresh != RECORDS -> STORE(state[fresh], NEXT(state[fresh], FREE, 0)) :: else fi;
           fresh = RECORDS;
           result = 1; break
        :: else
        fi
     :: result == ABSENT && fresh == RECORDS ->
        Claim();
        if
#ifdef BUG_FULL_WAITS
        :: fresh == RECORDS -> skip
#else
        :: fresh == RECORDS -> result = 0; break
#endif
        :: else ->
           /* hash and name */
           STORE(name[fresh], at_name);
           wanted_cre = creation_floor;
           Fill(fresh)
        fi
     :: result == ABSENT && fresh != RECORDS ->
        wanted_cre = creation_floor;
        STORE(creation[fresh], wanted_cre);
#ifdef BUG_HEAD
        hv = link[HEAD];
#endif
        STORE(link[fresh], LIKE(hv, link[fresh], 0));
        CAS(link[HEAD], hv, TO(fresh, hv), ok);
        if
        :: ok ->
           slot = fresh;
           fresh = RECORDS;
           d_step { BecameLive(slot); state[slot] = NEXT(state[slot], LIVE, 0) };
           DIE;
           result = 1; break
        :: else
        fi
     fi
  od;
  if :: fresh != RECORDS -> STORE(state[fresh], NEXT(state[fresh], FREE, 0)) :: else fi
}

/* What a registration is named by: some slot, and the id seen there. It may be over by now. */
inline Choose() {
  if :: slot = 0 :: slot = 1 fi;
  want_id = id[slot]
}

inline End() {
  Choose();
  do
  :: st = state[slot];
     if
     :: !IS_FOUND(KIND(st)) -> break
     :: else ->
        seen_id = id[slot];
        if
        :: state[slot] != st -> skip
        :: else ->
           if
           :: seen_id != want_id -> break
           :: else ->
              d_step {
                if
                :: state[slot] == st ->
                   BecameEnded(slot, want_id);
                   if
                   :: KIND(st) == ADOPTING -> state[slot] = NEXT(st, CLAIMED, OWNER(st))
                   :: else -> state[slot] = NEXT(st, REMEMBERED, 0)
                   fi;
                   ok = 1
                :: else -> ok = 0
                fi
              };
              if :: ok -> DIE; break :: else fi
           fi
        fi
     fi
  od
}

inline Orphan() {
  Choose();
  do
  :: st = state[slot];
     if
     :: KIND(st) != LIVE -> break
     :: else ->
        seen_id = id[slot];
        if
        :: state[slot] != st -> skip
        :: else ->
           if
           :: seen_id != want_id -> break
           :: else ->
              CAS(state[slot], st, NEXT(st, ORPHANED, 0), ok);
              if :: ok -> assert(id[slot] == want_id); break :: else fi
           fi
        fi
     fi
  od
}

inline Adopt() {
  Choose();
  do
  :: st = state[slot];
     if
     :: KIND(st) != ORPHANED && KIND(st) != ADOPTING -> break
     :: else ->
        seen_id = id[slot];
        if
        :: state[slot] != st -> skip
        :: else ->
           if
           :: seen_id != want_id -> break
           :: KIND(st) == ADOPTING && seen_id == want_id ->
              if
              :: dead[OWNER(st)] -> settling = slot; Settle()
              :: else -> break /* patience ends */
              fi
           :: KIND(st) == ORPHANED && seen_id == want_id ->
              target = slot;
              owned = NEXT(st, ADOPTING, me);
              CAS(state[slot], st, owned, ok);
              if
              :: ok ->
                 STORE(conn[slot], me);
                 EndAdoption(LIVE);
                 break
              :: else
              fi
           fi
        fi
     fi
  od
}

inline Act() {
  if
  :: (ACTS & 1) -> if :: at_name = 1 :: at_name = 2 :: at_name = 3 fi; Register()
  :: (ACTS & 2) -> End()
  :: (ACTS & 4) -> Orphan()
  :: (ACTS & 8) -> Adopt()
  fi
}

proctype Writer(byte me) {
  WRITER_LOCALS;
  byte ops;
  d_step { is_mortal = CRASH && me == 1; may_stall = STALL == me };
  do
  :: ops < (me == 1 -> OPS_1 : OPS_2) -> Act(); ops++
  :: else -> break
  od;
  goto over;
dying:
  /* The kernel gives its place back. */
  dead[me] = 1;
over:
  atomic { is_done[me] = 1; writers_done++; goto gone };
end_stalled:
  false;
gone:
  skip
}

#define AllFound() (IS_FOUND(KIND(state[0])) && IS_FOUND(KIND(state[1])))

/* With nobody in the middle of anything: each record is settled, and on the chain exactly if it has
   a name (marked records may be there still: they are taken off by whoever meets them). */
inline CheckSettled() {
  d_step {
    at = link[HEAD]; fresh = 0;
    do
    :: IS_END(at) -> break
    :: else ->
       i = INDEX(at);
       assert(fresh < RECORDS);
       assert(KIND(state[i]) != FREE && !IS_OWNED(KIND(state[i])));
       fresh++;
       at = link[i]
    od;
    i = 0;
    do
    :: i == RECORDS -> break
    :: else ->
       assert(!IS_OWNED(KIND(state[i])));
       if :: KIND(state[i]) != FREE -> fresh-- :: else fi;
       if :: IS_FOUND(KIND(state[i])) -> assert(live_id[name[i]] == id[i]) :: else fi;
       i++
    od;
    assert(fresh == 0);
    i = 0; fresh = RECORDS; at = 0
  }
}

inline SettleAll() {
  settling = 0;
  do
  :: settling == RECORDS -> break
  :: else ->
     st = state[settling];
     if
#ifdef BUG_SETTLE_ONCE
     :: IS_OWNED(KIND(st)) && dead[OWNER(st)] -> Settle(); settling++
#else
     /* And look again: others may have moved it on before. */
     :: IS_OWNED(KIND(st)) && dead[OWNER(st)] -> Settle()
#endif
#ifdef BUG_OPEN_WAITS
     :: IS_OWNED(KIND(st)) && !dead[OWNER(st)] -> skip
#endif
     :: else -> settling++
     fi
  od;
  skip
}

/* Who opens the registry after a death, while the other writer goes on. When all is over it checks
   everything, and registers a name. */
proctype Opener() {
  WRITER_LOCALS;
  byte me = WRITERS + 1;
end:
  dead[1] || writers_done == WRITERS;
  SettleAll();
end_settled:
  writers_done == WRITERS;
  CheckSettled();
  if :: at_name = 1 :: at_name = 2 :: at_name = 3 fi;
  Register();
  /* INV-3: none is lost, none is stuck. */
  assert(live_id[at_name] != 0 || AllFound());
  CheckSettled();
  is_done[me] = 1;
  goto over;
dying:
end_stalled:
  assert(false);
over:
  skip
}

proctype Reader() {
  byte at_name, anchor, i, got_id, got_text, live_before, epoch_before;
  short av, at, nx, st;
  byte found; /* 0 searching, 1 found, 2 not */
  if :: at_name = 1 :: at_name = 2 :: at_name = 3 fi;
  d_step { live_before = live_id[at_name]; epoch_before = epoch[at_name] };
restart:
  skip;
  d_step { anchor = HEAD; av = link[HEAD]; at = av; found = 0 };
  do
  :: found != 0 -> break
  :: else ->
     if
     :: IS_END(at) -> found = 2
     :: else ->
        i = INDEX(at);
        nx = link[i];
        st = state[i];
        if
        :: name[i] == at_name && KIND(st) != RETIRING ->
           if
           :: IS_FOUND(KIND(st)) ->
              got_id = id[i];
              got_text = text[i];
#ifndef BUG_STATE_CHECK
              if :: state[i] != st -> goto restart :: else fi;
#endif
              found = 1
           :: else ->
              if :: state[i] != st -> goto restart :: else fi;
              if :: link[anchor] != av -> goto restart :: else fi;
              found = 2
           fi
        :: else ->
           if
           :: link[anchor] != av -> goto restart
           :: else ->
              d_step { if :: !IS_MARKED(nx) -> anchor = i; av = nx :: else fi; at = nx }
           fi
        fi
     fi
  od;
  atomic {
    /* INV-1 */
    if :: found == 1 -> assert(got_id == got_text) :: else fi;
    if
    :: epoch[at_name] == epoch_before ->
       assert((found == 1) == (live_before != 0));
       if :: found == 1 -> assert(got_id == live_before) :: else fi
    :: else
    fi;
    got_id = 0; got_text = 0; st = 0; nx = 0; av = 0; at = 0; i = 0
  }
}

/* Record i has name i + 1, in one of the states in which nobody owns it. */
inline Start(i) {
  if :: state[i] = LIVE :: state[i] = ORPHANED :: state[i] = REMEMBERED fi;
  id[i] = i + 1; text[i] = id[i]; name[i] = i + 1; creation[i] = 1;
  creation_last[name[i]] = 1;
  if :: IS_FOUND(state[i]) -> live_id[name[i]] = id[i] :: else fi
}

init {
  byte n;
  atomic {
    Start(0);
    Start(1);
    next_id = 2;
    if
    :: link[HEAD] = TO(0, 0); link[0] = TO(1, 0)
    :: link[HEAD] = TO(1, 0); link[1] = TO(0, 0)
    fi;
    run Writer(1);
    run Writer(2);
    run Opener();
    do :: n == READERS -> break :: else -> run Reader(); n++ od
  }
}

/* Whoever is able to go on does so at some time (weak fairness); who has stopped is not, and who is
   dead. */
#define IS_OF_DEAD(i) (IS_OWNED(KIND(state[i])) && dead[OWNER(state[i])])

/* INV-3: nobody waits for another one. The operations of writer 2 end, wherever writer 1 has died
   or stopped. BUG_WAIT: a record that somebody is at is looked at again until it is settled. */
ltl lockfree { <> is_done[2] }

/* INV-3: what a dead writer was at is settled by whoever opens the registry, even when another
   writer has stopped. BUG_OPEN_WAITS: who opens it waits for those that live. */
ltl settled { [] (dead[1] -> <> [] (!IS_OF_DEAD(0) && !IS_OF_DEAD(1))) }

/* INV-3: after a death and a recovery a name is registered, or refused because all records are
   taken. BUG_FULL_WAITS: who finds none looks again. */
ltl recovers { [] (dead[1] -> <> is_done[WRITERS + 1]) }
