/*
 * What an extent of the registry says about records and blocks (L-14, L-15 in registry/layout.h):
 * writers, one who looks for records to recycle, a crash at any step.
 *
 * Every access to shared memory is one step; between any two steps anybody else may go on. Writer 1
 * may die after each of its changes. Two records, which share one word of occupancy and one block. How
 * records are found, and how a name is won, is registry.pml's.
 *
 *   here             there
 *   SetOccupied      SetOccupied                   occupancy.cc
 *   ClearIfVacant    ClearIfVacant                 occupancy.cc
 *   Standing         TextPool::StandingOf          text_pool.cc
 *   Provide          TextPool::Provide, Keep, Take text_pool.cc
 *   GiveBack         TextPool::GiveBack            text_pool.cc
 *   Sweeper          Slab::FindOldest              slab.cc
 *
 * Left out: names in blocks (a remembered one is forgotten first, which is claiming its record), more
 * than one block, and the bounds of all loops, which are for damaged segments.
 *
 * Checked at every moment:
 *   P11    the bit of a record that is live is set, so that lists have it
 *   INV-1  the block of a live record is its own and has its text
 *
 * Sizes (tools/project/model): OPS_1, OPS_2 of the two writers, SWEEPS, CRASH. Seeded bugs, which must
 * be found: BUG_BIT_LATE, BUG_BIT_VERSION, BUG_BIT_ORDER, BUG_KEEP, BUG_UNCLAIMED.
 */
#ifndef OPS_1
#define OPS_1 2
#endif
#ifndef OPS_2
#define OPS_2 2
#endif
#ifndef SWEEPS
#define SWEEPS 1
#endif
#ifndef CRASH
#define CRASH 1
#endif
#define RECORDS 2

/* {version, claimant, kind}; each change raises the version (L-1). */
#define FREE 0
#define CLAIMED 1
#define LIVE 2
#define REMEMBERED 3
#define KIND(s) ((s) & 3)
#define CLAIMANT(s) (((s) >> 2) & 3)
#define NEXT(s, kind, claimant) (((((s) >> 4) + 1) << 4) | ((claimant) << 2) | (kind))
/* {version, bits}; so is the owner word: {version, record + 1}. */
#define LOW(w) ((w) & 3)
#define NEXT_WORD(w, low) (((((w) >> 2) + 1) << 2) | (low))

short state[RECORDS];
bool has_block[RECORDS]; /* the record names the block */
short occupancy;
short block_owner;
byte text;               /* what is in the block: the id of a registration */
bool dead[3];

/* What is true, for the checks only: changed in the same step as what makes it true. */
byte live_text[RECORDS]; /* what a live record should find in its block; 0: it needs none */
byte ids;

#define BIT(r) (1 << (r))
#define IS_WHOLE(r) (KIND(state[r]) != LIVE || ((occupancy & BIT(r)) != 0 && \
  (live_text[r] == 0 || (LOW(block_owner) == (r) + 1 && text == live_text[r]))))

#define DIE if :: is_mortal -> goto dying :: true fi
#define CAS(word, old, new, ok) \
  d_step { if :: word == (old) -> word = (new); ok = 1 :: else -> ok = 0 fi }; \
  if :: ok -> DIE :: else fi

/* The caller has claimed record r. */
inline SetOccupied(r) {
  do
  :: word = occupancy;
#ifdef BUG_BIT_VERSION
     if :: (word & BIT(r)) != 0 -> break :: else fi;
#endif
     CAS(occupancy, word, NEXT_WORD(word, LOW(word) | BIT(r)), ok);
     if :: ok -> break :: else fi
  od
}
inline ClearIfVacant(r) {
  do
  ::
#ifdef BUG_BIT_ORDER
     st = state[r];
     word = occupancy;
#else
     word = occupancy;
     if :: (word & BIT(r)) == 0 -> break :: else fi;
     st = state[r];
#endif
     if :: KIND(st) != FREE && KIND(st) != REMEMBERED -> break :: else fi;
     CAS(occupancy, word, NEXT_WORD(word, LOW(word) & (3 - BIT(r))), ok);
     if :: ok -> break :: else fi
  od
}

/* Whether the block, whose owner word is `own`, belongs to nobody: ok. */
inline Standing() {
  ok = 0;
  if
  :: LOW(own) == 0 -> ok = 1
  :: else ->
     other = LOW(own) - 1;
     st = state[other];
     if
     :: KIND(st) == CLAIMED && dead[CLAIMANT(st)] ->
        CAS(state[other], st, NEXT(st, REMEMBERED, 0), ok);
        ok = 0; st = state[other]
     :: else
     fi;
     if
     :: KIND(st) == CLAIMED -> ok = 0
     :: else ->
        named = has_block[other];
        if
        :: state[other] != st -> ok = 0
        :: state[other] == st && KIND(st) == LIVE && named -> ok = 0
        :: state[other] == st && (KIND(st) != LIVE || !named) -> ok = 1
        fi
     fi
  fi
}
/* A block for record r, which the caller has claimed: has_it. */
inline Provide(r) {
  has_it = 0;
  named = has_block[r];
  if
  :: named ->
     own = block_owner;
     if
     :: LOW(own) == r + 1 ->
#ifdef BUG_KEEP
        has_it = 1
#else
        CAS(block_owner, own, NEXT_WORD(own, r + 1), ok);
        has_it = ok
#endif
     :: else
     fi
  :: else
  fi;
  if
  :: !has_it ->
     own = block_owner;
     Standing();
     if
     :: ok ->
        CAS(block_owner, own, NEXT_WORD(own, r + 1), ok);
        if :: ok -> has_it = 1; has_block[r] = 1; DIE :: else fi
     :: else
     fi
  :: else
  fi
}
inline GiveBack(r) {
  named = has_block[r];
  if
  :: named ->
     has_block[r] = 0;
     DIE;
     own = block_owner;
     if :: LOW(own) == r + 1 -> CAS(block_owner, own, NEXT_WORD(own, 0), ok) :: else fi
  :: else
  fi
}

proctype Writer(byte me; byte ops; bool is_mortal) {
  short word, own, st, claimed;
  byte r, other, my_text;
  bool ok, has_it, named;
  do
  :: ops == 0 -> goto ended
  :: else ->
     ops--;
     if :: r = 0 :: r = 1 fi;
     st = state[r];
     if
     :: KIND(st) == LIVE ->
        /* Its end. */
        d_step {
          if
          :: state[r] == st -> state[r] = NEXT(st, REMEMBERED, 0); live_text[r] = 0; ok = 1
          :: else -> ok = 0
          fi
        };
        if :: ok -> DIE; ClearIfVacant(r) :: else fi
     :: KIND(st) == CLAIMED ->
        if
        :: dead[CLAIMANT(st)] -> CAS(state[r], st, NEXT(st, REMEMBERED, 0), ok)
        :: else
        fi
     :: else ->
        claimed = NEXT(st, CLAIMED, me);
#ifdef BUG_UNCLAIMED
        Provide(r);
        CAS(state[r], st, claimed, ok);
        my_text = 1;
#else
        CAS(state[r], st, claimed, ok);
        if :: my_text = 0 :: my_text = 1 fi;
#endif
        if
        :: ok ->
#ifndef BUG_UNCLAIMED
           if
           :: my_text == 1 -> Provide(r)
           :: else -> GiveBack(r); has_it = 1
           fi;
#endif
           if
           :: has_it ->
              if
              :: my_text == 1 -> skip; d_step { ids++; my_text = ids; text = my_text }; DIE
              :: else
              fi;
#ifdef BUG_BIT_LATE
              d_step { state[r] = NEXT(claimed, LIVE, 0); live_text[r] = my_text };
              DIE;
              SetOccupied(r)
#else
              SetOccupied(r);
              skip;
              d_step { state[r] = NEXT(claimed, LIVE, 0); live_text[r] = my_text };
              DIE
#endif
           :: else ->
              /* There is no block to be had: it is given back. */
              state[r] = NEXT(claimed, FREE, 0);
              DIE;
              ClearIfVacant(r)
           fi
        :: else
        fi
     fi
  od;
dying:
  dead[me] = 1;
ended:
  skip
}

/* Who looks for a record to recycle clears the bits that a dead writer has left. */
proctype Sweeper(byte sweeps) {
  short word, st;
  byte r;
  bool ok, is_mortal;
  do
  :: sweeps == 0 -> break
  :: else ->
     sweeps--;
     if :: r = 0 :: r = 1 fi;
     ClearIfVacant(r)
  od;
dying:
  skip
}

proctype Monitor() {
  assert(IS_WHOLE(0) && IS_WHOLE(1))
}

init {
  atomic {
    run Writer(1, OPS_1, CRASH);
    run Writer(2, OPS_2, 0);
    run Sweeper(SWEEPS);
    run Monitor()
  }
}
