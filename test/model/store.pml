/*
 * A model of one store and its processes: attach, recover, append, seal,
 * flush, gc, read and close, with death at any step and, with -DPOWER=n, n
 * power cuts. Checked exhaustively by Spin (make test-model).
 *
 * WHAT STANDS FOR WHAT  Each numbered comment names the engine's function.
 *   lsn       place of a record: log lsn / CAP, the last place of each log is
 *             for its SEAL, so the next log begins where this one ends
 *   cache     the log's bytes as processes see them, disk: as synced
 *   a version says which log is written, how many are flushed, and whether
 *             the end is clean: `head` is the published one, `written` the last
 *             edit's in the manifest that CURRENT names, `synced` the last on
 *             the disk; ends[] is part of each
 *   tail, durable, visible, head, owner: the words of the shared page
 *   lock[]    the locks of LOCK; alive[]: ALIVE held shared. Death gives all
 *             of them back, and nothing else
 *   One arrow, or one atomic or d_step block, is one step of a process; what
 *   the engine does in several instructions that others can see is several.
 *   A power cut kills everybody; each record and each edit that is not synced
 *   has reached the disk or not, by itself.
 *
 * CLAIMS
 *   A  what is visible in `full`, and so what is acknowledged, is durable, and
 *      survives a power cut
 *   B  what was visible stays: same record at its LSN, before and after deaths
 *      and recoveries; what a recovery dropped does not come back
 *   C  a recovery finds what the manifest promises: logs that are whole up to
 *      their ends, a clean end where it is marked, no record in a log that is
 *      not named yet
 *   D  gc removes no log that a manifest which may survive still names
 *   E  the log that is written is the one that the head names
 *   F  a flush takes only what is visible
 *   G  a read sees everything that was acknowledged before it began
 *   H  no deadlock: whoever lives comes to its end
 *   I  CURRENT names a manifest that is whole
 *
 * ERRORS  -DBUG=n plants one; each is found (test/model.test):
 *   1 visible before the sync          2 gc does not settle the head
 *   3 a dead owner's SEAL is not finished
 *   4 a rotation raises visible late   5 ATTACH is not taken
 *   and by a power cut:
 *   6 durable without the sync         7 a log is not synced at its SEAL (L3)
 *   8 a recovery does not write again what it accepts (L4)
 *   9 it goes on in the same log (P10) 10 CURRENT before its manifest
 *   11 a takeover does not write again (P12)
 *   12 a clean mark counts for ever
 *
 * NOT HERE  The fence and failed syncs, prepared transactions and INGEST,
 *   epochs (a record of a dead owner is told from a newer one by its place
 *   alone), pins and recycled logs, read-only opens: test/c/sched_test.c, kill
 *   and image tests.
 */
#ifndef PROCS
#define PROCS 2
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef LIVES
#define LIVES 2
#endif
#ifndef COMMITS
#define COMMITS 2
#endif
#ifndef BUG
#define BUG 0
#endif
#ifndef POWER
#define POWER 0 /* power cuts */
#endif
#ifndef NORMAL
#define NORMAL 0 /* 1: a commit syncs or not */
#endif
#ifndef ROLLS
#define ROLLS 0 /* edits that begin a new manifest, at most */
#endif
#ifndef CAP
#define CAP 2 /* places of a log */
#endif
#ifndef LOGS
#define LOGS 7
#endif
#define PLACES (CAP * LOGS)
#ifndef OPS
#define OPS 2 /* of one life */
#endif
/* A version, in one byte. */
#define VERSION(log, flushed, clean) ((log)*16 + (flushed)*2 + (clean))
#define LOG(version) ((version) >> 4)
#define FLUSHED(version) (((version) >> 1) & 7)
#define CLEAN(version) ((version) & 1)
#define SEAL 15
#define IN_LOG(place) \
  ((place) / CAP >= LOG(head) || (place) < ends[(place) / CAP])

#define ATTACH 0
#define FLUSH 1
#define WRITE 2
#define HEAD 3
#define LOCKS 4

byte cache[PLACES], disk[PLACES]; /* 0: nothing valid */
byte seen[PLACES];                /* ghost: what was visible there */
byte head = VERSION(0, 0, 1), written = VERSION(0, 0, 1),
     synced = VERSION(0, 0, 1); /* as created: log 0 is empty, and clean */
bool log_file[LOGS]; /* it exists */
byte ends[LOGS];     /* by the edit that names the next log */

byte tail, durable, visible, owner;
bool page_valid; /* magic, and of this boot */

byte lock[LOCKS];
bool alive[PROCS];
bool kill[PROCS];
byte deaths, commits;
#if POWER
byte cuts;
byte clean_end;           /* where the mark is */
byte safe;                /* ghost: the highest durable */
bool dropped[COMMITS + 1]; /* ghost: by a recovery */
bool is_whole = true;      /* the manifest that `written` is in, on the disk */
#endif
#if ROLLS
byte rolls;
#endif
byte acked; /* ghost: end of the last acknowledged commit */

byte alive_count;

inline give_back(me) {
  d_step {
    lock[ATTACH] = (lock[ATTACH] == me + 1 -> 0 : lock[ATTACH]);
    lock[FLUSH] = (lock[FLUSH] == me + 1 -> 0 : lock[FLUSH]);
    lock[WRITE] = (lock[WRITE] == me + 1 -> 0 : lock[WRITE]);
    lock[HEAD] = (lock[HEAD] == me + 1 -> 0 : lock[HEAD]);
    if
    :: alive[me] -> alive[me] = false; alive_count--
    :: else
    fi
  }
}

inline take(which) { atomic { lock[which] == 0 -> lock[which] = me + 1 } }
inline give(which) { lock[which] = 0 }

/* A, B: after every change of visible. */
inline publish(to) {
  d_step {
    if
    :: visible < to -> visible = to
    :: else
    fi;
    assert(NORMAL || visible <= durable); /* A */
    i = 0;
    do
    :: i < visible && !IN_LOG(i) -> i++ /* behind the end of its log */
    :: i < visible && IN_LOG(i) ->
       assert(seen[i] == 0 || seen[i] == cache[i]); /* B */
#if POWER
       assert(cache[i] == SEAL || !dropped[cache[i]]); /* B */
#endif
       seen[i] = cache[i];
       i++
    :: else -> break
    od;
    i = 0
  }
}

inline raise_durable(to) {
  d_step {
    durable = (durable < to -> to : durable);
#if POWER
    safe = (safe < durable -> durable : safe)
#endif
  }
}

/* fdatasync of the log up to the tail (skv_log_sync). */
inline sync_log(end) {
  d_step {
    i = 0;
    do
    :: i < end -> disk[i] = cache[i]; i++
    :: else -> break
    od;
    i = 0
  }
}

/* ---- The head: engine/db/head.c ---------------------------------------- */

/* 1 skv_head_settle: with HEAD. Adopt what a dead writer did not publish. */
inline settle() {
  if
  :: written != head ->
     synced = written; /* written again, synced */
     head = written
  :: else
  fi
}

/* 2 head_edit_locked: append, sync, publish. With HEAD, settled. */
inline edit(version) {
#if ROLLS
  if
  :: rolls < ROLLS -> /* head_write: a new manifest, then CURRENT */
     rolls++;
     if
     :: BUG != 10 -> written = version; is_whole = true
     :: BUG == 10 ->
        d_step { written = version; is_whole = false };
        is_whole = true
     fi
  :: written = version
  fi;
#else
  written = version;
#endif
  synced = written;
  head = written
}

/* ---- Rotation: engine/db/rotate.c -------------------------------------- */

/* 3 skv_rotate: WRITE held; SEAL stands already if `sealed`. */
inline rotate(sealed) {
  if
  :: !sealed ->
     cache[tail] = SEAL; /* 3a skv_append of the SEAL */
     tail = tail + 1
  :: else
  fi;
  if
  :: BUG != 7 -> sync_log(tail) /* 3b L3 */
  :: else
  fi;
  raise_durable(tail);
  if
  :: BUG != 4 -> publish(tail) /* 3c P2: before the head names the next */
  :: else
  fi;
  take(HEAD);
  settle();
  if
  :: LOG(head) * CAP + CAP == tail ->
     d_step {
       log_file[tail / CAP] = true; /* 3d skv_log_publish */
       ends[tail / CAP - 1] = tail
     };
     edit(VERSION(tail / CAP, FLUSHED(head), 0)) /* 3e, INV-7 */
  :: else /* done by one who died, and settled just before */
  fi;
  give(HEAD);
  publish(tail)
}

/* ---- WRITE: engine/db/write_lock.c ------------------------------------- */

/* 4 skv_write_acquire and write_takeover. */
inline acquire() {
  take(WRITE);
  if
  :: owner != 0 ->
     take(HEAD); /* 4a write_settle_head */
     settle();
     give(HEAD);
     if
     :: tail < PLACES -> cache[tail] = 0 /* 4b write_erase */
     :: else
     fi;
     if
     :: BUG != 11 -> sync_log(tail) /* 4c write_rescue */
     :: else
     fi;
     raise_durable(tail);
     if
     :: tail % CAP == 0 && LOG(head) * CAP + CAP == tail && BUG != 3 ->
        rotate(true) /* 4d P8: its last record is a SEAL */
     :: else
     fi;
     publish(tail); /* 4e */
     owner = me + 1
  :: else -> owner = me + 1
  fi
}

/* 5 skv_write_release. */
inline release() {
  owner = 0;
  give(WRITE)
}

/* ---- Commit: engine/db/commit.c ---------------------------------------- */

/* 6 commit_group, in `full`. */
inline commit() {
  acquire();
  if
  :: tail % CAP == CAP - 1 && tail / CAP < LOGS - 1 -> rotate(false)
  :: else
  fi;
  if
  :: tail % CAP < CAP - 1 && commits < COMMITS ->
     assert(LOG(head) == tail / CAP); /* E: the log that is written */
     d_step { commits++; cache[tail] = commits }; /* 6a skv_log_write */
     tail = tail + 1;                             /* 6b */
     if
     :: BUG == 1 -> publish(tail)
     :: else
     fi;
     if
     :: BUG != 6 -> /* 6c skv_append_sync */
        sync_log(tail);
        raise_durable(tail)
     :: BUG == 6 -> raise_durable(tail)
#if NORMAL
     :: true
#endif
     fi;
     publish(tail); /* 6d skv_append_publish */
     at = tail;
     release();
     acked = (acked < at -> at : acked) /* 6e it returns */
  :: else -> release()
  fi
}

/* ---- Flush and gc: engine/db/flush.c, gc.c ----------------------------- */

/* 7 skv_flush_oldest: the segment is written and synced before it is named. */
inline flush() {
  take(FLUSH);
  at = FLUSHED(head);
  if
  :: at < LOG(head) ->
     assert(visible >= (at + 1) * CAP); /* F */
     take(HEAD);
     settle();
     if
     :: FLUSHED(head) == at -> edit(VERSION(LOG(head), at + 1, 0))
     :: else
     fi;
     give(HEAD)
  :: else
  fi;
  give(FLUSH);
  at = 0
}

/* 8 skv_gc: with HEAD, what the settled head does not name. */
inline collect() {
  take(HEAD);
  if
  :: BUG != 2 -> settle()
  :: else
  fi;
  if
  :: visible == tail ->
     d_step {
       i = 0;
       at = (BUG == 2 -> FLUSHED(written) : FLUSHED(head));
       do
       :: i < at ->
          if
          :: log_file[i] ->
             log_file[i] = false;
             assert(FLUSHED(synced) > i) /* D */
          :: else
          fi;
          i++
       :: else -> break
       od;
       i = 0;
       at = 0
     }
  :: else
  fi;
  give(HEAD)
}

/* ---- Reading: engine/db/state.c ---------------------------------------- */

/* 9 skv_view_take. The floor is what was acknowledged before. */
inline read() {
  floor = acked;
  do
  :: at = head;
     limit = visible;
     if
     :: at == head -> break
     :: else
     fi
  od;
  skip;
  d_step {
    /* view_check: below the active log everything is decided. */
    limit = (limit < LOG(at) * CAP -> LOG(at) * CAP : limit);
    assert(limit >= floor); /* G */
    i = 0;
    do
    :: i < limit ->
       assert(i / CAP < FLUSHED(at) || cache[i] != 0 ||
              seen[i] == 0); /* B */
       i++
    :: else -> break
    od;
    i = 0;
    at = 0;
    limit = 0;
    floor = 0
  }
}

/* ---- Attach and close: engine/db/attach.c, recover.c ------------------- */

/* 10 skv_db_recover: with ATTACH and ALIVE, alone. */
inline recover() {
  page_valid = false; /* recover_clear_page */
  d_step { tail = 0; durable = 0; visible = 0; owner = 0; head = written };
  synced = written; /* recover_rewrite_head */
  d_step { /* recover_find_end: the first place that holds nothing */
    i = FLUSHED(head);
    do /* C: sealed logs are whole */
    :: i < LOG(head) ->
       at = i * CAP;
       do
       :: at < ends[i] -> assert(cache[at] != 0); at++
       :: else -> break
       od;
       i++
    :: else -> break
    od;
    at = LOG(head) * CAP;
    do
    :: at < (LOG(head) + 1) * CAP && cache[at] != 0 -> at++
    :: else -> break
    od;
#if POWER
    assert(!CLEAN(head) || at == clean_end);/* C */
    i = at;
    do
    :: i < PLACES ->
       assert(i < (LOG(head) + 1) * CAP || cache[i] == 0); /* C */
       if
       :: cache[i] != 0 && cache[i] != SEAL -> dropped[cache[i]] = true
       :: else
       fi;
       i++
    :: else -> break
    od;
#endif
    i = 0
  };
  if
  :: CLEAN(head) ->
     tail = at;
     raise_durable(at);
     publish(at);
     if
     :: BUG != 12 ->
        edit(VERSION(LOG(head), FLUSHED(head), 0)) /* void the mark */
     :: else
     fi
  :: else ->
     if
     :: BUG != 8 -> sync_log(at) /* recover_rewrite: L4 */
     :: else
     fi;
     if
     :: BUG != 9 || at == (LOG(head) + 1) * CAP ->
        /* recover_build: P10, beyond the old */
        assert(LOG(head) + 1 < LOGS);
        d_step {
          ends[LOG(head)] = at;
          at = (LOG(head) + 1) * CAP;
          log_file[LOG(head) + 1] = true
        };
        edit(VERSION(LOG(head) + 1, FLUSHED(head), 0))
     :: else
     fi;
     tail = at;
     raise_durable(at);
     publish(at)
  fi;
  at = 0;
  page_valid = true
}

inline attach() {
  if
  :: BUG != 5 -> take(ATTACH)
  :: else
  fi;
  if
  :: alive_count == 0 ->
     /* A recovery costs a log: no more of them than the model has. */
     recover()
  :: else -> assert(page_valid || BUG == 5) /* attach_join */
  fi;
  d_step { alive[me] = true; alive_count++ };
  if
  :: BUG != 5 -> give(ATTACH)
  :: else
  fi;
  if
  :: owner != 0 && lock[WRITE] == 0 -> acquire(); release() /* attach_settle */
  :: else
  fi
}

/* 11 skv_db_detach: the last one marks the head. */
inline detach() {
  take(ATTACH);
  if
  :: alive_count == 1 ->
     acquire();
     sync_log(tail);
     raise_durable(tail);
     take(HEAD);
     settle();
#if POWER
     clean_end = tail;
#endif
     edit(VERSION(LOG(head), FLUSHED(head), 1)); /* detach_clean */
     give(HEAD);
     release()
  :: else
  fi;
  give_back(me)
}

/* ---- Processes --------------------------------------------------------- */

byte running = PROCS;

proctype process(byte me) {
  byte lives, ops, i, at, limit, floor;
  do
  :: lives < LIVES ->
     lives++;
     {
       attach();
       do
       :: ops < OPS -> ops++; commit()
       :: ops < OPS -> ops++; flush(); collect()
       :: ops < OPS -> ops++; read()
       :: break
       od;
       ops = 0;
       detach()
     } unless {
       kill[me] -> /* everything it held is given back */
         give_back(me);
         d_step { kill[me] = false; ops = 0; i = 0; at = 0; limit = 0; floor = 0 }
     }
  :: lives > 0 -> break
  od;
  running--
}

/* Deaths, of one process at a time, whenever. */
proctype death() {
  byte who;
end:
  do
  :: deaths < DEATHS && running > 0 ->
     atomic {
       select(who : 0 .. PROCS - 1);
       deaths++;
       kill[who] = true;
       who = 0
     }
#if POWER
  :: cuts < POWER && running > 0 ->
     atomic {
       cuts++;
       do
       :: who < PROCS -> kill[who] = true; give_back(who); who++
       :: else -> break
       od;
       who = 0;
       do
       :: who < PLACES && cache[who] == disk[who] -> who++
       :: who < PLACES && cache[who] != disk[who] ->
          assert(who >= safe || cache[who] == 0 || seen[who] == 0 ||
                 who / CAP < FLUSHED(synced)); /* A */
          if
          :: cache[who] = disk[who]; seen[who] = 0
          :: disk[who] = cache[who]
          fi;
          who++
       :: else -> break
       od;
       who = 0;
       if
       :: written != synced -> written = synced; is_whole = true
       :: assert(is_whole); /* I */
          synced = written
       fi;
       acked = (acked > safe -> safe : acked);
       page_valid = false
     }
#endif
  :: running == 0 -> break
  od
}

init {
  atomic {
    log_file[0] = true;
    byte p = 0;
    do
    :: p < PROCS -> run process(p); p++
    :: else -> break
    od;
    p = 0;
    run death()
  }
}
