/*
 * Attaching to a store as one of its processes, and leaving it.
 *
 * ALIVE is held shared for life. Who gets it exclusively is alone and makes
 * the shared page anew: creates, recovers, or opens what was closed cleanly.
 * ATTACH serializes that, so that nobody sees a half-recovered store. A slot
 * is claimed by locking its byte of LOCK; death frees it without a trace.
 */
#include <stdio.h>

#include "engine/db/db.h"
#include "engine/util/point.h"

#define ATTACH_POLL_NS 200000u

void skv_db_next_name(void *arg, skv_name *out) {
  skv_db *db = arg;
  uint64_t n =
      atomic_fetch_add_explicit(&db->tmp_count, 1, memory_order_relaxed);
  *out = (skv_name){SKV_NAME_TMP, n, db->slot, db->incarnation};
}

bool skv_slot_alive(skv_db *db, uint32_t slot) {
  if (slot == db->slot) return true;
  if (slot >= SKV_SLOTS) return false; /* the page is untrusted */
  int rc = skv_store_lock(db->store, SKV_LOCK_SLOT + slot, SKV_EXCLUSIVE, NULL);
  if (rc != STRATAKV_OK) return true; /* also when it cannot be known */
  (void)skv_store_lock(db->store, SKV_LOCK_SLOT + slot, SKV_UNLOCK, NULL);
  return false;
}

void skv_slot_describe(skv_db *db, uint32_t slot, char *text, size_t size) {
  if (slot >= SKV_SLOTS) {
    snprintf(text, size, "another process");
    return;
  }
  skv_slot *s = &db->shared->slots[slot];
  uint64_t words[2] = {skv_peek(&s->program[0]), skv_peek(&s->program[1])};
  char program[17] = {0};
  memcpy(program, words, 16);
  for (char *p = program; *p; p++)
    if (*p < ' ' || *p > '~') *p = '?'; /* the page is untrusted */
  snprintf(text, size, "pid %u (%s)", skv_peek(&s->pid), program);
}

int skv_slot_claim(skv_db *db, skv_err *err) {
  skv_shared *shared = db->shared;
  for (uint32_t i = 0; i < SKV_SLOTS; i++) {
    int rc = skv_store_lock(db->store, SKV_LOCK_SLOT + i, SKV_EXCLUSIVE, err);
    if (rc == STRATAKV_BUSY) continue;
    if (rc != STRATAKV_OK) return rc;
    skv_slot *slot = &shared->slots[i];
    SKV_POINT("attach.slot_locked");
    char program[16] = {0};
    uint64_t words[2];
    db->env->program(db->env, program);
    memcpy(words, program, 16);
    db->slot = i;
    db->incarnation = atomic_fetch_add(&shared->next_incarnation, 1) + 1;
    skv_poke(&slot->pinned_wal, 0);
    skv_store_word(&slot->incarnation, db->incarnation);
    skv_poke(&slot->pid, db->env->pid(db->env));
    skv_poke(&slot->program[0], words[0]);
    skv_poke(&slot->program[1], words[1]);
    atomic_fetch_and(&shared->requests, ~(UINT64_C(1) << i));
    SKV_POINT("attach.slot_claimed");
    return STRATAKV_OK;
  }
  return SKV_ERROR(err, STRATAKV_BUSY, "%u processes have the store open",
                   SKV_SLOTS);
}

/* Wait for a lock of LOCK; never while holding WRITE. */
static int attach_lock(skv_db *db, unsigned which, int mode, uint64_t deadline,
                       skv_err *err) {
  for (;;) {
    int rc = skv_store_lock(db->store, which, mode, err);
    if (rc != STRATAKV_BUSY || db->env->now(db->env) >= deadline) return rc;
    db->env->sleep(db->env, ATTACH_POLL_NS);
  }
}

/* An owner of WRITE that died may have left a commit that the next owner will
 * finish. Who opens the store after that death must find it finished: the one
 * who died may have been its predecessor, and it asks what became of its last
 * commit. Failure is no reason not to open. */
static void attach_settle(skv_db *db, uint64_t deadline) {
  for (;;) {
    uint32_t owner = skv_peek(&db->shared->owner);
    if (owner == 0) return;
    if (owner - 1 != db->slot && skv_slot_alive(db, owner - 1)) return;
    SKV_POINT("attach.owner_dead");
    if (skv_lead_begin(db, 0, NULL) != STRATAKV_OK) return;
    int rc = skv_write_acquire(db, 0, 0, NULL);
    skv_lead_end(db);
    if (rc != STRATAKV_BUSY || db->env->now(db->env) >= deadline) return;
    db->env->sleep(db->env, ATTACH_POLL_NS);
  }
}

/* Zero is who could not know (no /proc in its container), and says nothing. */
static bool attach_is_same_boot(const uint8_t page[16],
                                const uint8_t mine[16]) {
  static const uint8_t unknown[16];
  return memcmp(page, mine, 16) == 0 || memcmp(page, unknown, 16) == 0 ||
         memcmp(mine, unknown, 16) == 0;
}

/* The others initialised the page before they let ATTACH go. */
static int attach_join(skv_db *db, uint64_t deadline, skv_err *err) {
  uint8_t boot[16];
  db->env->boot_id(db->env, boot);
  uint64_t manifest;
  int rc = skv_head_current(db->store, err, db->store_id, &manifest);
  if (rc != STRATAKV_OK) return rc;
  if (skv_peek(&db->shared->magic) != SKV_SHARED_MAGIC ||
      !attach_is_same_boot(db->shared->boot_id, boot) ||
      memcmp(db->shared->store_id, db->store_id, 16) != 0)
    return SKV_ERROR(err, STRATAKV_CORRUPT,
                     "SHARED is damaged; close the store everywhere");
  if (skv_peek(&db->shared->format) != SKV_FORMAT)
    return SKV_ERROR(err, STRATAKV_NOTADB,
                     "store format %u, this build reads up to %u",
                     skv_peek(&db->shared->format), SKV_FORMAT);
  rc = skv_slot_claim(db, err);
  if (rc == STRATAKV_OK) rc = skv_head_follow(db, err);
  SKV_POINT("attach.joined");
  if (rc == STRATAKV_OK && !db->options.read_only) attach_settle(db, deadline);
  return rc;
}

/* Alone with ALIVE exclusive: make the page from the files. */
static int attach_alone(skv_db *db, bool create, skv_err *err) {
  int probe;
  int rc = skv_store_probe(db->store, err, &probe);
  if (rc != STRATAKV_OK) return rc;
  if (probe == SKV_PROBE_FOREIGN || (probe == SKV_PROBE_EMPTY && !create))
    return SKV_ERROR(err, STRATAKV_CANTOPEN, "no store at \"%s\"",
                     skv_store_info(db->store)->path);
  return probe == SKV_PROBE_EMPTY ? skv_db_create(db, err)
                                  : skv_db_recover(db, err);
}

/* A page of one's own, for a replay that nobody else sees (P7). It begins as
 * what the others left, or change just now: what they vouched for must be
 * there. */
static int attach_private(skv_db *db, skv_err *err) {
  db->is_private = true;
  int rc = skv_page_copy(db->store, err, &db->shared);
  if (rc != STRATAKV_OK) return rc;
  return skv_db_recover(db, err);
}

/* Beside processes that this one cannot join, for LOCK is not its to write (a
 * read-only mount, another user's file): PRIVATE keeps logs from being recycled
 * under the replay; HEAD, while it is made, the manifest as it is, and what it
 * names from being removed. Where neither can be locked nobody else can. */
static int attach_beside(skv_db *db, uint64_t deadline, uint32_t timeout_ms,
                         skv_err *err) {
  int rc = attach_lock(db, SKV_LOCK_PRIVATE, SKV_SHARED, deadline, err);
  if (rc == STRATAKV_OK)
    rc = attach_lock(db, SKV_LOCK_HEAD, SKV_SHARED, deadline, err);
  if (rc == STRATAKV_BUSY)
    return SKV_ERROR(err, rc,
                     "waited %u ms for another process that is changing the "
                     "manifest",
                     timeout_ms);
  db->is_beside = true;
  rc = attach_private(db, err);
  (void)skv_store_lock(db->store, SKV_LOCK_HEAD, SKV_UNLOCK, NULL);
  return rc;
}

static int attach_share(skv_db *db, bool create, bool alone, uint64_t deadline,
                        skv_err *err) {
  void *page = NULL;
  int rc = skv_store_shared(db->store, alone, false, err, &page);
  if (rc != STRATAKV_OK) return rc;
  db->shared = page;
  SKV_POINT("attach.mapped");
  rc = alone ? attach_alone(db, create, err) : attach_join(db, deadline, err);
  if (rc == STRATAKV_OK)
    rc = skv_store_lock(db->store, SKV_LOCK_ALIVE, SKV_SHARED, err);
  SKV_POINT("attach.alive");
  return rc;
}

/* Under ATTACH: alone or not? A read-only handle joins a store that is in use
 * and replays one that is not; PRIVATE keeps logs from being recycled under
 * it, and is taken before the head is read. */
static int attach_locked(skv_db *db, bool create, uint64_t deadline,
                         skv_err *err) {
  int rc = skv_store_lock(db->store, SKV_LOCK_ALIVE, SKV_EXCLUSIVE, err);
  bool alone = rc == STRATAKV_OK;
  if (rc != STRATAKV_OK && rc != STRATAKV_BUSY) return rc;
  if (alone && db->options.read_only) {
    (void)skv_store_lock(db->store, SKV_LOCK_ALIVE, SKV_UNLOCK, NULL);
    rc = skv_store_lock(db->store, SKV_LOCK_PRIVATE, SKV_SHARED, err);
    return rc == STRATAKV_OK ? attach_private(db, err) : rc;
  }
  rc = attach_share(db, create, alone, deadline, err);
  if (rc != STRATAKV_OK)
    (void)skv_store_lock(db->store, SKV_LOCK_ALIVE, SKV_UNLOCK, NULL);
  return rc;
}

int skv_db_attach(skv_db *db, bool create, uint32_t timeout_ms, skv_err *err) {
  uint64_t deadline = db->env->now(db->env) + (uint64_t)timeout_ms * 1000000u;
  int rc = skv_store_lock_open(db->store, !db->options.read_only, err);
  /* No LOCK, or not even readable: nobody is using it, or nobody can tell. */
  if (rc != STRATAKV_OK)
    return db->options.read_only ? attach_private(db, err) : rc;
  rc = attach_lock(db, SKV_LOCK_ATTACH, SKV_EXCLUSIVE, deadline, err);
  if (rc == STRATAKV_BUSY)
    return SKV_ERROR(err, STRATAKV_BUSY,
                     "waited %u ms for another process to recover the store",
                     timeout_ms);
  if (rc != STRATAKV_OK && db->options.read_only)
    return attach_beside(db, deadline, timeout_ms, err);
  if (rc != STRATAKV_OK) return rc;
  SKV_POINT("attach.locked");
  rc = attach_locked(db, create, deadline, err);
  (void)skv_store_lock(db->store, SKV_LOCK_ATTACH, SKV_UNLOCK, NULL);
  SKV_POINT("attach.done");
  return rc;
}

/* Last one out: everything synced, and the head says so. */
static int detach_clean_build(void *arg, const skv_version *version,
                              skv_buf *edit, skv_err *err) {
  skv_db *db = arg;
  SKV_UNUSED(version);
  SKV_UNUSED(err);
  skv_edit_clean(edit, skv_peek(&db->shared->tail));
  return STRATAKV_OK;
}

static int detach_clean(skv_db *db, skv_err *err) {
  SKV_OPERATION("close");
  int rc = skv_lead_begin(db, 1000, err);
  if (rc != STRATAKV_OK) return rc;
  rc = skv_write_acquire(db, 0, 0, err);
  if (rc == STRATAKV_OK) rc = skv_append_sync(db, err);
  SKV_POINT("detach.synced");
  if (rc == STRATAKV_OK) rc = skv_head_edit(db, detach_clean_build, db, err);
  SKV_POINT("detach.marked");
  skv_lead_end(db);
  return rc;
}

int skv_db_detach(skv_db *db, skv_err *err) {
  int rc = STRATAKV_OK;
  if (db->is_private) return rc;
  if (!db->options.read_only && !skv_peek(&db->shared->fence)) {
    uint64_t deadline = db->env->now(db->env) + UINT64_C(1000000000);
    if (atomic_load(&db->sync_mode) == STRATAKV_SYNC_NORMAL) skv_sync_now(db);
    rc = attach_lock(db, SKV_LOCK_ATTACH, SKV_EXCLUSIVE, deadline, NULL);
    if (rc == STRATAKV_OK) {
      /* ATTACH is kept until LOCK is closed: a newcomer must not find ALIVE
       * taken by someone who is already gone. */
      SKV_POINT("detach.locked");
      if (skv_store_lock(db->store, SKV_LOCK_ALIVE, SKV_EXCLUSIVE, NULL) ==
          STRATAKV_OK)
        rc = detach_clean(db, err);
    } else {
      rc = STRATAKV_OK; /* others are attaching: they take care of it */
    }
  }
  skv_write_release(db);
  SKV_POINT("detach.done");
  return rc; /* closing LOCK gives back the rest */
}
