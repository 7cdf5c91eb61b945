/*
 * Making a store's state from its files, alone: creation, clean open, recovery.
 *
 * RECOVERY  finds where the newest log ends (L1), makes what it accepts
 *   durable by writing it again (L4, P12), and goes on in a new log whose LSNs
 *   lie beyond everything the old one could have held (L2, P10). It may be
 *   killed and repeated at any point: until its one edit of the head is
 *   durable nothing has changed.
 *
 * PRIVATE  replay (P7) does the same and writes nothing: the old log simply
 *   ends where it ends.
 */
#include <stdio.h>

#include "engine/db/db.h"
#include "engine/util/point.h"

/* ---- The shared page --------------------------------------------------- */

int skv_page_copy(skv_store *store, skv_err *err, skv_shared **out) {
  skv_buf page = {0};
  *out = skv_aligned(4096, SKV_SHARED_SIZE);
  if (!*out) return skv_error_nomem(err);
  memset(*out, 0, SKV_SHARED_SIZE);
  int rc = skv_store_read_file(store, "SHARED", SKV_SHARED_SIZE, err, &page);
  if (rc == STRATAKV_OK && page.size == SKV_SHARED_SIZE)
    memcpy(*out, page.data, SKV_SHARED_SIZE);
  skv_buf_clear(&page);
  return rc == STRATAKV_NOMEM || rc == STRATAKV_IOERR ? rc : STRATAKV_OK;
}

skv_page skv_page_read(skv_env *env, const skv_shared *shared,
                       const uint8_t store_id[16], bool beside) {
  skv_page page = {.visible = UINT64_MAX};
  uint8_t boot[16];
  env->boot_id(env, boot);
  if (memcmp(shared->boot_id, boot, 16) != 0 ||
      memcmp(shared->store_id, store_id, 16) != 0)
    return page;
  page.fenced = skv_peek(&shared->fence) != 0 || skv_peek(&shared->rescue) != 0;
  page.durable = skv_peek(&shared->durable);
  page.head = skv_peek(&shared->head);
  uint64_t magic = skv_peek(&shared->magic);
  if (beside && magic == SKV_SHARED_MAGIC)
    page.visible = skv_peek(&shared->visible);
  page.known = !page.fenced &&
               (magic == SKV_SHARED_MAGIC || magic == SKV_SHARED_RECOVERING) &&
               page.durable <= skv_peek(&shared->tail);
  return page;
}

uint64_t skv_page_least(const skv_page *page, uint64_t start, uint64_t size) {
  if (!page->known || page->durable > skv_wal_lsn(start, size)) return 0;
  return page->durable < page->visible ? page->durable : page->visible;
}

/* Begin the page: no magic until the state is complete. That there was a fence
 * must not be forgotten, wherever this is interrupted; nor what was durable and
 * published, or damage that is refused now would be taken for the end of the
 * log, or of the manifest, by the next one who opens. Volatile: in this order,
 * of which nobody but its own death can see anything. */
static void recover_clear_page(skv_db *db, const skv_page *page) {
  volatile skv_shared *shared = db->shared;
  uint8_t boot[16];
  db->env->boot_id(db->env, boot);
  skv_poke(&shared->rescue, page->fenced);
  skv_poke(&shared->magic, page->known ? SKV_SHARED_RECOVERING : 0);
  skv_poke(&shared->fence, 0);
  skv_poke(&shared->visible, 0);
  skv_poke(&shared->ingest, 0);
  skv_poke(&shared->retired_wal, 0);
  if (!page->known) {
    skv_poke(&shared->tail, 0);
    skv_poke(&shared->durable, 0);
    skv_poke(&shared->head, 0);
  }
  memset((uint8_t *)db->shared + offsetof(skv_shared, epoch), 0,
         sizeof *shared - offsetof(skv_shared, epoch));
  for (size_t i = 0; i < 16; i++) {
    if (shared->boot_id[i] != boot[i]) shared->boot_id[i] = boot[i];
    if (shared->store_id[i] != db->store_id[i])
      shared->store_id[i] = db->store_id[i];
  }
  skv_poke(&shared->format, SKV_FORMAT);
  atomic_fetch_add(&shared->recoveries, 1);
  if (skv_peek(&shared->next_incarnation) >= UINT32_MAX / 2)
    skv_poke(&shared->next_incarnation, 0);
}

static void recover_publish(skv_db *db, uint64_t tail, uint32_t epoch) {
  volatile skv_shared *shared = db->shared;
  skv_poke(&shared->epoch, epoch);
  skv_poke(&shared->tail, tail);
  skv_poke(&shared->durable, tail);
  skv_poke(&shared->visible, tail);
  skv_poke(&shared->head, db->head_end.pos);
  skv_poke(&shared->retired_wal, db->state->version->flushed_wal);
  skv_poke(&shared->magic, SKV_SHARED_MAGIC);
}

/* Incarnations must not repeat while files of dead ones may exist: begin
 * beyond every one in a name. */
static int recover_scan_name(void *arg, const skv_name *name) {
  skv_db *db = arg;
  if (name->kind == SKV_NAME_TMP && name->slot != 0xff &&
      name->incarnation >= skv_peek(&db->shared->next_incarnation) &&
      name->incarnation < UINT32_MAX / 2)
    skv_poke(&db->shared->next_incarnation, name->incarnation + 1);
  return 0;
}

static int recover_claim(skv_db *db, skv_err *err) {
  int rc = skv_store_list(db->store, recover_scan_name, db, err);
  if (rc != STRATAKV_OK) return rc;
  return skv_slot_claim(db, err);
}

/* ---- Creation ---------------------------------------------------------- */

static uint64_t first_wal_size(skv_db *db) {
  uint64_t size = db->options.wal_size;
  if (size > SKV_FIRST_WAL) size = SKV_FIRST_WAL;
  return skv_disk_log_size(db, size, 0);
}

int skv_log_begin(skv_store *store, const skv_name *tmp,
                  const skv_wal_header *header, uint64_t size, skv_err *err) {
  uint8_t bytes[SKV_WAL_HEADER];
  skv_log *log = NULL;
  int rc = skv_log_create(store, tmp, size, err, &log);
  if (rc != STRATAKV_OK) return rc;
  skv_wal_header_encode(header, bytes);
  rc = skv_log_publish(log, header->number, bytes, sizeof bytes, err);
  skv_log_close(log);
  if (rc != STRATAKV_OK) (void)skv_store_remove(store, tmp, NULL);
  return rc;
}

static int recover_new_log(skv_db *db, uint64_t number, uint64_t start,
                           uint32_t prev, uint64_t size, skv_err *err) {
  skv_name tmp;
  skv_db_next_name(db, &tmp);
  skv_wal_header header = {.number = number, .start = start, .prev = prev};
  memcpy(header.store_id, db->store_id, 16);
  return skv_log_begin(db->store, &tmp, &header, size, err);
}

/* A new store: its log, its manifest, and last its CURRENT. The log's name is
 * synced first, and with it the store's own (store.c). */
int skv_db_create(skv_db *db, skv_err *err) {
  SKV_OPERATION("creation");
  const uint64_t manifest = 1, wal = 2, start = 4096;
  const uint64_t size = first_wal_size(db); /* asks the disk: once */
  skv_version *version = NULL, *full = NULL;
  skv_buf edit = {0}, bytes = {0};
  skv_manifest_end end;

  int rc = db->env->random(db->env, db->store_id, 16, err);
  if (rc != STRATAKV_OK) return rc;
  recover_clear_page(db, &(skv_page){0});
  rc = recover_claim(db, err);
  if (rc == STRATAKV_OK) rc = recover_new_log(db, wal, start, 0, size, err);
  SKV_POINT("create.logged");
  if (rc == STRATAKV_OK)
    rc = skv_version_new(&db->tree, db->store_id, err, &version);
  if (rc != STRATAKV_OK) goto out;
  skv_edit_next(&edit, 3);
  skv_edit_wal(&edit, wal, start, size);
  if (edit.rc == STRATAKV_OK)
    skv_manifest_encode(db->store_id, manifest, skv_buf_bytes(&edit), &bytes,
                        &end);
  rc = edit.rc != STRATAKV_OK || bytes.rc != STRATAKV_OK ? skv_error_nomem(err)
                                                         : STRATAKV_OK;
  if (rc == STRATAKV_OK)
    rc = skv_version_apply(&db->tree, version, skv_buf_bytes(&edit), end.pos,
                           true, err, &full);
  if (rc == STRATAKV_OK)
    rc = skv_head_replace(db->store, db->store_id, manifest, bytes.data,
                          bytes.size, err);
  SKV_POINT("create.headed");
  if (rc != STRATAKV_OK) goto out;
  rc = skv_state_install(db, full, err);
  full = NULL;
  if (rc != STRATAKV_OK) goto out;
  db->head_end = end;
  recover_publish(db, start, 1);
  SKV_POINT("create.published");
out:
  skv_version_unref(version);
  skv_version_unref(full);
  skv_buf_clear(&edit);
  skv_buf_clear(&bytes);
  return rc;
}

/* ---- Recovery ---------------------------------------------------------- */

/* The end of the newest log. */
typedef struct recover_end {
  skv_wal_place place;   /* behind its last record */
  skv_wal_record last;   /* that record; type 0 if there is none */
  skv_wal_record ingest; /* INGEST at the end, with or without SEAL; or 0 */
  uint64_t tail;         /* LSN of the end */
} recover_end;

/* Read the newest log to its end (L1), or to `most`. `least`: it cannot end
 * below (a clean close, or what the page says was synced); 0 if not known. A
 * clean close says where it ends; what stands behind was never committed. */
static int recover_find_end(skv_memlog *log, uint64_t least, uint64_t most,
                            bool clean, skv_err *err, recover_end *out) {
  const uint8_t *bytes = skv_log_bytes(log->log);
  uint64_t size = skv_log_size(log->log);
  if (clean) size = skv_memlog_limit(log, least);
  skv_name wal = {SKV_NAME_WAL, log->number, 0, 0};
  char name[SKV_NAME_SIZE];
  skv_name_format(&wal, name);
  memset(out, 0, sizeof *out);
  out->place = (skv_wal_place){.seed = skv_wal_seed(&log->header),
                               .offset = SKV_WAL_HEADER,
                               .prev = log->header.prev,
                               .epoch = 0};
  skv_wal_record record;
  while (out->last.type != SKV_RECORD_SEAL &&
         skv_wal_lsn(log->start, out->place.offset) < most &&
         skv_wal_read(bytes, size, true, &out->place, &record)) {
    out->last = record;
    if (record.type == SKV_RECORD_INGEST)
      out->ingest = record;
    else if (record.type != SKV_RECORD_SEAL)
      out->ingest.type = 0;
  }
  out->tail = skv_wal_lsn(log->start, out->place.offset);
  if (out->tail < least)
    return skv_error_corrupt(err, name, out->place.offset,
                             clean ? "synced record is damaged"
                                   : "no record that SHARED says was synced");
  uint64_t at;
  if (out->last.type != SKV_RECORD_SEAL && !clean && out->tail < most &&
      skv_wal_proof_of_damage(bytes, size, log->start, &out->place, &at))
    return skv_error_corrupt(err, name, out->place.offset,
                             "record before a synced one is damaged");
  return STRATAKV_OK;
}

/* L4, P12: write the accepted bytes from `from` on again, and sync them. */
static int recover_rewrite(skv_memlog *log, uint64_t from, uint64_t end,
                           skv_err *err) {
  enum { CHUNK = 1 << 20 };
  int rc = STRATAKV_OK;
  from &= ~UINT64_C(4095);
  uint8_t *copy = skv_malloc(CHUNK);
  if (!copy) return skv_error_nomem(err);
  while (rc == STRATAKV_OK && from < end) {
    uint64_t n = end - from < CHUNK ? end - from : CHUNK;
    memcpy(copy, skv_log_bytes(log->log) + from, n);
    rc = skv_log_write(log->log, from, copy, n, true, err);
    from += n;
  }
  skv_free(copy);
  SKV_POINT("recover.rewritten");
  if (rc == STRATAKV_OK) rc = skv_log_sync(log->log, err);
  return rc;
}

/* The edit that ends the old log and begins the next. */
typedef struct recover_turn {
  skv_db *db;
  skv_memlog *log;
  recover_end *end;
  uint64_t start; /* LSN of the next log */
} recover_turn;

static int recover_build(void *arg, const skv_version *version, skv_buf *edit,
                         skv_err *err) {
  recover_turn *turn = arg;
  uint64_t number = version->next_file;
  uint64_t size = first_wal_size(turn->db);
  int rc = recover_new_log(turn->db, number, turn->start,
                           (uint32_t)turn->end->last.checksum, size, err);
  if (rc != STRATAKV_OK) return rc;
  SKV_POINT("recover.new_log");
  skv_edit_end(edit, turn->log->number, turn->end->tail);
  skv_edit_wal(edit, number, turn->start, size);
  skv_edit_next(edit, number + 1);
  return STRATAKV_OK;
}

/* The files of the INGEST that the log ends with are gone. If its record never
 * became durable while they were there it was not acknowledged, and its writer
 * or gc of a survivor took them: OK, the log ends before it. Else they are
 * lost. */
static int recover_ingest_gone(const skv_page *page, uint64_t lsn,
                               skv_err *err) {
  if (!page->known || page->durable <= lsn) return STRATAKV_OK;
  char what[sizeof err->message] = "";
  if (err) memcpy(what, err->message, sizeof what);
  return SKV_ERROR(err, STRATAKV_CORRUPT,
                   "a segment of the INGEST at LSN %llu is missing: %.300s",
                   (unsigned long long)lsn, what);
}

/* Looked at before the page says that the record is durable. */
static int recover_seek_ingest(skv_db *db, const skv_memlog *log,
                               recover_end *end, const skv_page *page,
                               skv_err *err) {
  if (end->ingest.type == 0) return STRATAKV_OK;
  uint64_t lsn = skv_wal_lsn(log->start, end->ingest.offset);
  int rc = skv_ingest_seek(db, end->ingest.payload, err);
  if (rc != STRATAKV_NOTFOUND) return rc;
  end->tail = lsn;
  end->ingest.type = 0;
  return recover_ingest_gone(page, lsn, err);
}

/* Finish the INGEST that the log ends with. */
static int recover_ingest(skv_db *db, const skv_memlog *log,
                          const recover_end *end, skv_err *err) {
  if (end->ingest.type == 0) return STRATAKV_OK;
  uint64_t lsn = skv_wal_lsn(log->start, end->ingest.offset);
  return skv_ingest_finish(db, end->ingest.payload, lsn, err);
}

/* Something stands at the end that is no record: a torn write, or damage that
 * nothing vouches against. It is dropped, and counted. */
static void recover_count_torn(skv_db *db, const skv_memlog *log,
                               const recover_end *end) {
  static const uint8_t zeros[SKV_RECORD_HEADER];
  uint64_t offset = end->place.offset;
  if (skv_log_size(log->log) - offset >= sizeof zeros &&
      memcmp(skv_log_bytes(log->log) + offset, zeros, sizeof zeros) != 0)
    atomic_fetch_add(&db->counters.torn_tails, 1);
}

/* After an unclean end: make the accepted part durable and turn to a new log
 * (P10: beyond everything the old one could have held). */
static int recover_unclean(skv_db *db, skv_memlog *log, recover_end *end,
                           const skv_page *page, skv_err *err) {
  uint64_t from = SKV_WAL_HEADER;
  if (page->known) from = skv_memlog_limit(log, page->durable);
  int rc = recover_seek_ingest(db, log, end, page, err);
  if (rc == STRATAKV_OK)
    rc = recover_rewrite(log, from, end->place.offset, err);
  if (rc != STRATAKV_OK) return rc;

  SKV_POINT("recover.synced");
  recover_count_torn(db, log, end);
  uint32_t epoch = end->place.epoch + 1;
  recover_publish(db, end->tail, epoch);
  skv_write_adopt_alone(db, log, &end->place, end->last.type);
  SKV_POINT("recover.settling");
  rc = recover_ingest(db, log, end, err);
  if (rc != STRATAKV_OK) return rc;
  skv_memlog *active = db->state->logs[db->state->log_count - 1];
  uint64_t start = active->start;
  if (active == log) { /* no ingest turned to a new log */
    start = skv_wal_lsn(log->start, skv_log_size(log->log));
    recover_turn turn = {db, log, end, start};
    rc = skv_head_edit(db, recover_build, &turn, err);
    if (rc != STRATAKV_OK) return rc;
    SKV_POINT("recover.turned");
    active = db->state->logs[db->state->log_count - 1];
  }
  skv_wal_place place = {.seed = skv_wal_seed(&active->header),
                         .offset = SKV_WAL_HEADER,
                         .prev = active->header.prev,
                         .epoch = epoch};
  skv_write_adopt_alone(db, active, &place, 0);
  recover_publish(db, start, epoch);
  return STRATAKV_OK;
}

/* A clean mark is good for one opening: from here on an unclean end must turn
 * to a new log, or an LSN could be used twice (P10). */
static int recover_void_clean(void *arg, const skv_version *version,
                              skv_buf *edit, skv_err *err) {
  SKV_UNUSED(arg);
  SKV_UNUSED(err);
  skv_edit_next(edit, version->next_file);
  return STRATAKV_OK;
}

/* After a fence the kernel may hold as clean what never reached the disk, in
 * older logs too: everything goes into new files before anyone sees it. */
static int recover_after_fence(skv_db *db, skv_err *err) {
  bool did = true;
  int rc = STRATAKV_OK;
  while (rc == STRATAKV_OK && did && db->state->log_count > 1)
    rc = skv_flush_oldest(db, &did, err);
  return rc;
}

bool skv_log_has_record(skv_store *store, uint64_t number,
                        const uint8_t store_id[16]) {
  skv_log *log = NULL;
  if (skv_log_open(store, number, false, NULL, &log) != STRATAKV_OK)
    return false;
  skv_wal_header header;
  skv_wal_record record;
  int rc = skv_wal_header_decode(skv_log_bytes(log), skv_log_size(log), "log",
                                 NULL, &header);
  bool found = rc == STRATAKV_OK && header.number == number &&
               memcmp(header.store_id, store_id, 16) == 0;
  if (found) {
    skv_wal_place place = {skv_wal_seed(&header), SKV_WAL_HEADER, header.prev,
                           0};
    found = skv_wal_read(skv_log_bytes(log), skv_log_size(log), true, &place,
                         &record);
  }
  skv_log_close(log);
  return found;
}

/* Whether a record stands in a log that the manifest does not know yet. A log
 * gets its first record after the edit that names it is durable, so that edit
 * was lost. */
typedef struct recover_search {
  skv_db *db;
  uint64_t next_file;
  skv_err *err;
} recover_search;

static int recover_search_log(void *arg, const skv_name *name) {
  recover_search *search = arg;
  skv_db *db = search->db;
  if (name->kind != SKV_NAME_WAL || name->number < search->next_file ||
      !skv_log_has_record(db->store, name->number, db->store_id))
    return 0;
  char text[SKV_NAME_SIZE], what[96];
  skv_name_format(name, text);
  snprintf(what, sizeof what, "the edit that names %s is damaged", text);
  skv_name manifest = {SKV_NAME_MANIFEST, skv_head_file(db->head_end.pos), 0,
                       0};
  skv_name_format(&manifest, text);
  return skv_error_corrupt(search->err, text, skv_head_offset(db->head_end.pos),
                           what);
}

/* INV-7: nobody else is there who could have removed a file. */
static int recover_missing(int rc, uint64_t manifest, skv_err *err) {
  if (rc != STRATAKV_NOTFOUND) return rc;
  char what[sizeof err->message] = "";
  if (err) memcpy(what, err->message, sizeof what);
  return SKV_ERROR(err, STRATAKV_CORRUPT,
                   "a file that CURRENT or %06llu.manifest names is missing: "
                   "%.300s",
                   (unsigned long long)manifest, what);
}

/* The page's word about the manifest counts after an unclean end only: that of
 * a clean one is its last edit. */
static int recover_read_manifest(skv_db *db, uint64_t file,
                                 const skv_page *page, skv_err *err,
                                 skv_version **out) {
  skv_head_pos published = page->known ? page->head : 0;
  int rc = skv_manifest_read(&db->tree, db->store_id, file, NULL, NULL,
                             published, err, &db->head_end, out);
  if (rc == STRATAKV_OK && (*out)->clean == 0 &&
      skv_head_file(published) > file) {
    skv_version_unref(*out);
    return skv_error_corrupt(err, "CURRENT", 32,
                             "SHARED knows of a newer manifest");
  }
  if (rc != STRATAKV_CORRUPT || published == 0) return rc;
  skv_err ignored;
  skv_manifest_end end;
  if (skv_manifest_read(&db->tree, db->store_id, file, NULL, NULL, 0, &ignored,
                        &end, out) != STRATAKV_OK)
    return rc;
  if ((*out)->clean == 0) {
    skv_version_unref(*out);
    skv_name name = {.kind = SKV_NAME_MANIFEST, .number = file};
    char text[SKV_NAME_SIZE];
    skv_name_format(&name, text);
    return skv_error_corrupt(err, text, skv_head_offset(end.pos),
                             "no edit that SHARED says was published");
  }
  db->head_end = end;
  return STRATAKV_OK;
}

static int recover_load(skv_db *db, const skv_page *page, skv_err *err) {
  uint64_t file;
  skv_version *version = NULL;
  int rc = skv_head_current(db->store, err, db->store_id, &file);
  if (rc == STRATAKV_OK)
    rc = recover_read_manifest(db, file, page, err, &version);
  if (rc == STRATAKV_OK) {
    recover_search search = {db, version->next_file, err};
    rc = skv_store_list(db->store, recover_search_log, &search, err);
    if (rc != STRATAKV_OK) skv_version_unref(version);
  }
  rc = recover_missing(rc, file, err);
  if (rc != STRATAKV_OK) return rc;
  if (version->wal_count == 0) {
    skv_version_unref(version);
    return SKV_ERROR(err, STRATAKV_CORRUPT, "the manifest names no log");
  }
  return recover_missing(skv_state_install(db, version, err), file, err);
}

/* The last edit may be one that nobody published, and that is not on the disk:
 * the next may only follow one that is (tree/manifest.h, APPENDING). */
static int recover_rewrite_head(skv_db *db, skv_err *err) {
  skv_buf bytes = {0};
  uint64_t file = skv_head_file(db->head_end.pos);
  uint64_t end = skv_head_offset(db->head_end.pos);
  int rc = skv_head_read(db->store, file, 0, err, &bytes);
  if (rc == STRATAKV_OK) {
    skv_manifest_pad(&bytes, 0, end, db->store_id, file);
    rc = bytes.rc == STRATAKV_OK ? STRATAKV_OK : skv_error_nomem(err);
  }
  if (rc == STRATAKV_OK)
    rc = skv_head_append(db->store, file, 0, bytes.data, end, err);
  if (rc == STRATAKV_OK) rc = skv_store_sync_names(db->store, err);
  skv_buf_clear(&bytes);
  return rc;
}

/* What a reader of its own shows of an INGEST that the log ends with: as
 * recover_ingest, and nothing is named. */
static int recover_ingest_private(skv_db *db, const skv_memlog *log,
                                  const recover_end *end, const skv_page *page,
                                  skv_err *err) {
  skv_state *state = NULL;
  if (end->ingest.type == 0) return STRATAKV_OK;
  uint64_t lsn = skv_wal_lsn(log->start, end->ingest.offset);
  int rc = skv_ingest_state(db, db->state, lsn, err, &state);
  if (rc == STRATAKV_OK) skv_poke(&db->shared->ingest, lsn);
  if (rc == STRATAKV_NOTFOUND) {
    skv_poke(&db->shared->visible, lsn);
    rc = recover_ingest_gone(page, lsn, err);
  }
  skv_state_unref(state);
  return rc;
}

/* A clean end: go on in the same log, unless something stands behind its end
 * that could be taken for a record later. */
static bool recover_may_go_on(const skv_memlog *log, const recover_end *end) {
  skv_wal_place place = end->place;
  skv_wal_record record;
  return !skv_wal_read(skv_log_bytes(log->log), skv_log_size(log->log), true,
                       &place, &record);
}

int skv_db_recover(skv_db *db, skv_err *err) {
  SKV_OPERATION("recovery");
  /* The store id is needed to judge the page, the page is cleared before the
   * state is loaded: memlogs pin through it. */
  uint64_t file;
  int rc = skv_head_current(db->store, err, db->store_id, &file);
  if (rc != STRATAKV_OK) return rc;
  skv_page page =
      skv_page_read(db->env, db->shared, db->store_id, db->is_beside);
  recover_clear_page(db, &page);
  db->head_doubted = page.fenced;
  SKV_POINT("recover.page_cleared");
  if (!db->is_private) rc = recover_claim(db, err);
  if (rc == STRATAKV_OK) rc = recover_load(db, &page, err);
  if (rc != STRATAKV_OK) return rc;
  SKV_POINT("recover.loaded");

  skv_state *state = db->state;
  skv_memlog *log = state->logs[state->log_count - 1];
  uint64_t clean = state->version->clean;
  uint64_t least = clean;
  if (clean == 0)
    least = skv_page_least(&page, log->start, skv_log_size(log->log));
  recover_end end;
  rc = recover_find_end(log, least, clean != 0 ? UINT64_MAX : page.visible,
                        clean != 0, err, &end);
  /* Only now: what is refused stays as it was found. */
  if (rc == STRATAKV_OK && !db->is_private &&
      !(page.known && db->head_end.pos <= page.head))
    rc = recover_rewrite_head(db, err);
  if (rc != STRATAKV_OK) return rc;
  SKV_POINT("recover.end_found");
  if (db->is_private ||
      (clean != 0 && !page.fenced && recover_may_go_on(log, &end))) {
    recover_publish(db, end.tail, end.place.epoch + 1);
    if (db->is_private)
      return recover_ingest_private(db, log, &end, &page, err);
    skv_write_adopt_alone(db, log, &end.place, end.last.type);
    SKV_POINT("recover.reopened");
    return skv_head_edit(db, recover_void_clean, NULL, err);
  }
  skv_memlog_ref(log);
  rc = recover_unclean(db, log, &end, &page, err);
  skv_memlog_unref(log);
  if (rc == STRATAKV_OK && page.fenced) rc = recover_after_fence(db, err);
  SKV_POINT("recover.done");
  if (rc == STRATAKV_OK) skv_poke(&db->shared->rescue, 0);
  return rc;
}
