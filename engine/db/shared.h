/*
 * The shared page: the only memory that processes share. Plain atomic words;
 * nothing in it points anywhere or can be half-updated.
 *
 * FILE  SHARED, 16 KiB, little-endian, mapped by every attached process; each
 *   group has a cache line of its own. No checksum: see TRUST.
 *      0  8  magic               256  8  head
 *      8  4  format              264  8  retired log
 *     12  4  next incarnation    320  4  epoch
 *     16 16  boot id             324  4  owner of WRITE
 *     32 16  store id            328  8  entries in the active log
 *     48  8  recoveries          384  8  requests
 *     56  4  fence               392  4  request word
 *     60  4  rescue              396  4  release word
 *     64  8  tail                448  4  disk low
 *    128  8  durable            4096     64 slots of 128 bytes: pid (4),
 *    192  8  visible                     incarnation (4), pinned log (8),
 *    200  8  ingest                      program (16), zero
 *
 * TRUST  It is meaningful only while someone holds ALIVE, and only if magic,
 *   boot id and store id are those expected (P7). Values read from it are
 *   checked against the version before they are used. The process that gets
 *   ALIVE exclusively writes it anew.
 *
 * ORDER  A writer of the log publishes tail, then (synced) durable, then
 *   visible; a writer of the head publishes head before any LSN that needs it
 *   becomes visible. An INGEST that the head cannot name becomes visible by
 *   its LSN in `ingest`; readers look there between visible and head. Words by
 *   which others find something are stored with release and loaded with acquire
 *   (skv_load, skv_store_word, skv_raise): tail and visible for the log's bytes
 *   and for `ingest`, that for the head before it, head for the manifest's
 *   bytes, incarnation for what its predecessor in the slot did. The rest is
 *   relaxed (skv_peek, skv_poke, skv_lift) because of one of these:
 *     LOCKED  Who writes the word and who reads it hold the same lock: WRITE
 *       (tail, epoch, owner), HEAD (head), ATTACH with ALIVE exclusively
 *       (everything). Of a process that died the kernel gives the locks back
 *       after its last store.
 *     LATER   The word says that something is in db->state, and who read it
 *       takes state_mutex next. A value stored after the mutex was given back
 *       is read only by who takes it later still: it meets that state.
 *     HINT    Who reads an old value does too much, or tries again in a moment:
 *       requests, disk_low, entries, figures. The futex words are compared
 *       again by the kernel.
 *     TRUE    What it says was so before it was stored and stays so, on the
 *       disk or for ever, and an older value is the more careful one: durable,
 *       fence, retired. No memory is read because of it.
 *     P1      pinned and retired: see skv_say.
 */
#ifndef SKV_DB_SHARED_H
#define SKV_DB_SHARED_H

#include <stdatomic.h>

#include "engine/store/store.h"

#define SKV_SLOTS 64 /* processes that can have one store open at a time */

/* One attached process. It is alive while its byte SKV_LOCK_SLOT + i of LOCK
 * is locked; the rest is only believed then. */
typedef struct skv_slot {
  _Atomic uint32_t pid;         /* for messages only */
  _Atomic uint32_t incarnation; /* in the names of its unnamed files */
  _Atomic uint64_t pinned_wal;  /* oldest log that it maps, 0: none (P1) */
  _Atomic uint64_t program[2];  /* its name, for messages */
  uint8_t unused[96];
} skv_slot;

typedef struct skv_shared {
  _Atomic uint64_t magic; /* SKV_SHARED_MAGIC, written last */
  _Atomic uint32_t format;
  _Atomic uint32_t next_incarnation;
  uint8_t boot_id[16];
  uint8_t store_id[16];
  _Atomic uint64_t recoveries; /* P7: grows with every initialisation */
  _Atomic uint32_t fence;      /* 1: a sync failed; read-only until all close */
  _Atomic uint32_t rescue;     /* 1: recovery after a fence is not complete */

  _Alignas(64) _Atomic uint64_t tail;    /* end of the last appended record */
  _Alignas(64) _Atomic uint64_t durable; /* everything below is synced */
  _Alignas(64) _Atomic uint64_t visible; /* readers see everything below */
  _Atomic uint64_t ingest; /* LSN of the last INGEST that was committed before
                              the head named its segments; 0: none */
  _Alignas(64) _Atomic uint64_t head; /* skv_head_pos of the last edit */
  _Atomic uint64_t retired_wal; /* no log up to this number is needed (P1) */

  _Alignas(64) _Atomic uint32_t epoch; /* of the holder of WRITE (P11) */
  _Atomic uint32_t owner;       /* slot + 1 of the holder of WRITE; left when it
                              dies: the next holder knows by it */
  _Atomic uint64_t wal_entries; /* entries in the active log, about */
  _Alignas(64) _Atomic uint64_t requests; /* bit per slot: wants WRITE (P14) */
  _Atomic uint32_t request_word; /* changes with every request: wait/wake */
  _Atomic uint32_t release_word; /* changes when WRITE is given back */

  _Alignas(64) _Atomic uint32_t disk_low; /* 1: space was too little when last
                              asked for; who puts something asks again */

  _Alignas(4096) skv_slot slots[SKV_SLOTS];
} skv_shared;

_Static_assert(sizeof(skv_slot) == 128, "slot layout");
_Static_assert(offsetof(skv_shared, slots) == 4096, "shared page layout");
_Static_assert(sizeof(skv_shared) <= SKV_SHARED_SIZE, "shared page size");

#define SKV_SHARED_MAGIC UINT64_C(0x314d485354415254) /* "TRATSHM1" */

/* While the page is made anew: nobody may join, but tail, durable and head are
 * what the last users left. */
#define SKV_SHARED_RECOVERING UINT64_C(0x3052485354415254) /* "TRATSHR0" */

/* What the last users left in the page, if this boot's (P7). */
typedef struct skv_page {
  bool fenced; /* a sync failed, and not everything was written again since */
  bool known;  /* not fenced, and the page was whole: */
  uint64_t durable;
  skv_head_pos head;
  uint64_t visible; /* beside others: they may still undo what is above */
} skv_page;

/* A copy of SHARED, in memory for skv_free. Zeros, which vouch for nothing, if
 * it cannot be opened or has another size. NOMEM, IOERR. */
int skv_page_copy(skv_store *store, skv_err *err, skv_shared **out);
/* What of it can be believed in that store; `beside` others, who may be at
 * work. */
skv_page skv_page_read(skv_env *env, const skv_shared *shared,
                       const uint8_t store_id[16], bool beside);
/* The LSN below which no record of the newest log, of `size` bytes and not
 * closed cleanly, can be missing; 0: not known. */
uint64_t skv_page_least(const skv_page *page, uint64_t start, uint64_t size);

/* With what stands behind the word. */
#define skv_load(p) atomic_load_explicit((p), memory_order_acquire)
#define skv_store_word(p, v)                                                   \
  atomic_store_explicit((p), (v), memory_order_release)

/* The word alone: see ORDER. */
#define skv_peek(p) atomic_load_explicit((p), memory_order_relaxed)
#define skv_poke(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)

/* Raise *word to at least value, with what stands behind it. */
static inline void skv_raise(_Atomic uint64_t *word, uint64_t value) {
  uint64_t old = skv_peek(word);
  while (old < value &&
         !atomic_compare_exchange_weak_explicit(
             word, &old, value, memory_order_release, memory_order_relaxed)) {
  }
}

/* The word alone. */
static inline void skv_lift(_Atomic uint64_t *word, uint64_t value) {
  uint64_t old = skv_peek(word);
  while (old < value &&
         !atomic_compare_exchange_weak_explicit(
             word, &old, value, memory_order_relaxed, memory_order_relaxed)) {
  }
}

/*
 * P1: who says something and then looks at what the other one said, with
 * skv_fence() between, and the other one likewise: at least one of them sees
 * it. Without the fence a look may overtake what was said before it, which
 * tests do on purpose (test/c/sched.h).
 */
#ifdef SKV_TEST
/* True: it will store that itself, at the latest when the thread passes a
 * fence or calls its environment. NULL: none. */
typedef struct skv_say_hook {
  bool (*say)(_Atomic uint64_t *word, uint64_t value, bool at_least);
  void (*fence)(void);
} skv_say_hook;
extern const skv_say_hook *skv_say_hooked; /* state.c */

static inline void skv_say(_Atomic uint64_t *word, uint64_t value) {
  if (skv_say_hooked == NULL || !skv_say_hooked->say(word, value, false))
    skv_poke(word, value);
}

static inline void skv_say_least(_Atomic uint64_t *word, uint64_t value) {
  if (skv_say_hooked == NULL || !skv_say_hooked->say(word, value, true))
    skv_lift(word, value);
}

static inline void skv_fence(void) {
  if (skv_say_hooked != NULL) skv_say_hooked->fence();
  atomic_thread_fence(memory_order_seq_cst);
}
#else
#define skv_say(p, v) skv_poke(p, v)
#define skv_say_least(p, v) skv_lift(p, v)
#define skv_fence() atomic_thread_fence(memory_order_seq_cst)
#endif

#endif
