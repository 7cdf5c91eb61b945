/*
 * Damage: one byte of a store is changed, the store is opened and every row is
 * read in every way. The answer is the exact data, or a refusal that names the
 * file; never a wrong row, a crash or a hang.
 *
 * The reference stores hold every kind of file: sealed and active logs,
 * segments of several levels and of each compression, manifest, CURRENT,
 * OWNERS, SHARED and LOCK; one was closed cleanly, one died. Each kind of file
 * gets its share of the places, whatever its size.
 *
 * What the format cannot tell (limit 1, and the manifest's last edit after a
 * reboot) is told apart here by the place of the damage: the last record of
 * the newest log, after an unclean end.
 *
 * Covers: INV-8
 */
#include "test/c/db_fixture.h"

#define KEYS 300
#define PLACES 1000

static stratakv_options options;
static uint32_t rows[KEYS];
static skv_prng rng;

/* ---- The reference stores ---------------------------------------------- */

typedef struct reference {
  fixture_image image;
  bool is_clean;
  uint32_t rows[KEYS];
  uint32_t before_last[KEYS]; /* without the last commit */
  uint64_t last_record;       /* in the newest log: its file offset */
  char newest[64];            /* log */
} reference;

static void put(stratakv_store *store, uint32_t table, uint32_t i, uint32_t v) {
  if (OK(fixture_put(store, table, i, v, NULL))) rows[i] = v;
}

static void fill(stratakv_store *store, uint32_t table, uint32_t from,
                 uint32_t count) {
  for (uint32_t n = 0; n < count; n++)
    put(store, table, (from + n * 7) % KEYS, n % 9 == 8 ? 0 : from + n + 1);
}

static stratakv_store *reference_open(skv_env *env, int compression) {
  stratakv_store *store = NULL;
  options = fixture_options();
  options.owner = "/app.db";
  options.owner_mode = STRATAKV_OWNER_ADD;
  options.compression = compression;
  OK(skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, &store));
  return store;
}

/* Where the newest log's last record begins. */
static void reference_last(reference *ref) {
  fixture_file *log = NULL;
  for (size_t i = 0; i < ref->image.count; i++) {
    fixture_file *f = &ref->image.files[i];
    if (skv_name_parse(f->name).kind == SKV_NAME_WAL &&
        (log == NULL || strcmp(f->name, log->name) > 0))
      log = f;
  }
  skv_wal_header header;
  skv_wal_record record;
  OK(skv_wal_header_decode(log->bytes, log->size, log->name, &fixture_err,
                           &header));
  skv_wal_place place = {skv_wal_seed(&header), SKV_WAL_HEADER, header.prev, 0};
  while (skv_wal_read(log->bytes, log->size, true, &place, &record))
    ref->last_record = record.offset;
  snprintf(ref->newest, sizeof ref->newest, "%s", log->name);
}

static void reference_make(reference *ref, bool is_clean) {
  stratakv_table_info table;
  memset(rows, 0, sizeof rows);
  skv_env *env = fixture_world(&(fixture_image){0});
  for (int compression = 0; compression < 3; compression++) {
    stratakv_store *store = reference_open(env, compression);
    OK(stratakv_table(store, "kv", STRATAKV_KEY_TEXT, 1, &fixture_err, &table));
    fill(store, table.id, 1000 * (uint32_t)compression, 500);
    OK(stratakv_flush(store, &fixture_err));
    if (compression == 0) OK(stratakv_compact(store, NULL, NULL, &fixture_err));
    OK(stratakv_close(store, &fixture_err));
  }
  /* A sealed log that is not flushed, and an active one. */
  stratakv_store *store = reference_open(env, STRATAKV_COMPRESSION_LZ4);
  fill(store, table.id, 5000, 60);
  skv_err err;
  OK(skv_lead_begin(store->db, 1000, &err));
  OK(skv_write_acquire(store->db, UINT64_MAX, 0, &err));
  OK(skv_rotate(store->db, 0, NULL, NULL, &err));
  skv_lead_end(store->db);
  fill(store, table.id, 6000, 40);
  memcpy(ref->before_last, rows, sizeof rows);
  put(store, table.id, 3, 7777);
  memcpy(ref->rows, rows, sizeof rows);
  ref->is_clean = is_clean;
  if (is_clean) OK(stratakv_close(store, &fixture_err));
  ref->image = fixture_take(env);
  fixture_file *lock = fixture_find(&ref->image, "LOCK");
  if (CHECK(lock != NULL) && lock->size == 0) { /* its bytes mean nothing */
    lock->bytes = realloc(lock->bytes, 16);
    if (lock->bytes == NULL) abort();
    memset(lock->bytes, 0, 16);
    lock->size = 16;
  }
  if (!is_clean) stratakv_close(store, NULL);
  skv_env_mem_free(env);
  reference_last(ref);
}

/* ---- Reading everything ------------------------------------------------ */

static int read_points(stratakv_store *store, uint32_t table,
                       const uint32_t *want, bool *wrong) {
  stratakv_value value = {0};
  int rc = STRATAKV_OK;
  for (uint32_t i = 0; i < KEYS && rc == STRATAKV_OK; i++) {
    char key[32];
    size_t n = fixture_key(i, key);
    rc = stratakv_get(store, NULL, table, key, n, &fixture_err, &value);
    if (rc == STRATAKV_OK)
      *wrong |= fixture_number(value.data, value.size) != want[i];
    else if (rc == STRATAKV_NOTFOUND)
      *wrong |= want[i] != 0;
    if (rc == STRATAKV_NOTFOUND) rc = STRATAKV_OK;
  }
  stratakv_value_clear(&value);
  return rc;
}

static int read_back(stratakv_store *store, uint32_t table,
                     const uint32_t *want, bool *wrong) {
  stratakv_cursor *c = NULL;
  uint32_t i = KEYS;
  int rc =
      stratakv_cursor_open(store, NULL, NULL, table, NULL, &fixture_err, &c);
  if (rc == STRATAKV_OK) rc = stratakv_cursor_last(c, &fixture_err);
  for (;;) {
    while (i > 0 && want[i - 1] == 0) i--;
    if (rc != STRATAKV_OK || !stratakv_cursor_valid(c)) break;
    size_t n;
    const void *p = stratakv_cursor_value(c, &n);
    *wrong |= i == 0 || fixture_number(p, n) != want[i - 1];
    if (i > 0) i--;
    rc = stratakv_cursor_prev(c, &fixture_err);
  }
  if (rc == STRATAKV_OK) *wrong |= i != 0;
  stratakv_cursor_close(c);
  return rc;
}

static int read_all(stratakv_store *store, uint32_t table, const uint32_t *want,
                    bool *wrong) {
  uint32_t seen[KEYS];
  int rc = fixture_scan(store, table, seen, KEYS);
  if (rc < 0) *wrong = true;
  if (rc == STRATAKV_OK) *wrong |= memcmp(seen, want, sizeof seen) != 0;
  int rc_points = read_points(store, table, want, wrong);
  int rc_back = read_back(store, table, want, wrong);
  if (rc == STRATAKV_OK) rc = rc_points;
  return rc == STRATAKV_OK ? rc_back : rc;
}

/* ---- One place --------------------------------------------------------- */

static unsigned exact, refused, limited;

/* Whether this code and message are a refusal because of that file. */
static bool is_refusal(int rc, const char *file) {
  if (strcmp(file, "OWNERS") == 0 && rc == STRATAKV_AUTH) return true;
  /* A CURRENT without our magic: a directory of someone else. */
  if (strcmp(file, "CURRENT") == 0 && rc == STRATAKV_CANTOPEN) return true;
  /* What the page says of another file is what that file does not hold. */
  if (strcmp(file, "SHARED") == 0 && rc == STRATAKV_CORRUPT) return true;
  return (rc == STRATAKV_CORRUPT || rc == STRATAKV_NOTADB) &&
         strstr(fixture_err.message, file) != NULL;
}

/* Limit 1: the last record, for which nothing vouches. */
static bool is_limit(const reference *ref, const char *file, size_t at,
                     bool same_boot) {
  return !ref->is_clean && !same_boot && strcmp(file, ref->newest) == 0 &&
         at >= ref->last_record;
}

static void damage(const reference *ref, size_t file, size_t at, uint8_t x,
                   bool same_boot) {
  const fixture_file *f = &ref->image.files[file];
  char where[120];
  snprintf(where, sizeof where, "%s byte %u ^ %02x, %s, %s boot", f->name,
           (unsigned)at, x, ref->is_clean ? "closed" : "died",
           same_boot ? "same" : "other");
  check_where = where;
  f->bytes[at] ^= x;
  skv_env *env = fixture_world(&ref->image);
  f->bytes[at] ^= x;
  if (same_boot) fixture_same_boot(env);
  if (same_boot && strcmp(f->name, "SHARED") == 0 && at >= FIXTURE_BOOT_AT &&
      at < FIXTURE_BOOT_AT + 16)
    x = 0; /* was just made right again */
  stratakv_store *store = NULL;
  stratakv_table_info table;
  bool wrong = false, wrong_before = false;
  options.owner_mode = STRATAKV_OWNER_REQUIRE;
  options.mmap = at % 2;
  int rc = skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, &store);
  if (rc == STRATAKV_OK)
    rc =
        stratakv_table(store, "kv", STRATAKV_KEY_TEXT, 0, &fixture_err, &table);
  if (rc == STRATAKV_OK) {
    bool limit = is_limit(ref, f->name, at, same_boot);
    rc = read_all(store, table.id, ref->rows, &wrong);
    if (wrong && limit)
      read_all(store, table.id, ref->before_last, &wrong_before);
    limited += wrong && limit;
    CHECK(!wrong || (limit && !wrong_before));
  }
  if (rc != STRATAKV_OK) {
    refused++;
    if (!CHECK(is_refusal(rc, f->name)))
      printf("%d %s\n", rc, fixture_err.message);
  } else {
    exact++;
  }
  stratakv_close(store, NULL);
  skv_env_mem_free(env);
  check_where = "";
}

/* ---- All of them ------------------------------------------------------- */

#define KINDS 9
static const char *const kinds[KINDS] = {"newest log", "older log", ".seg",
                                         ".manifest",  "CURRENT",   "OWNERS",
                                         "SHARED",     "LOCK",      ".tmp"};

static bool is_kind(const reference *ref, const fixture_file *f, int kind) {
  bool newest = strcmp(f->name, ref->newest) == 0;
  if (kind == 0) return newest;
  if (kind == 1) return !newest && strstr(f->name, ".wal") != NULL;
  return strstr(f->name, kinds[kind]) != NULL;
}

/* Bytes of a file that are worth changing: a log's zeros beyond its records
 * are many and say nothing. */
static size_t used_size(const fixture_file *f) {
  size_t size = f->size;
  while (size > 0 && f->bytes[size - 1] == 0) size--;
  size_t some = size + 64;
  return f->size < some ? f->size : some;
}

static void damage_kind(const reference *ref, int kind, unsigned count) {
  size_t files[200], n = 0;
  for (size_t i = 0; i < ref->image.count && n < 200; i++)
    if (is_kind(ref, &ref->image.files[i], kind)) files[n++] = i;
  for (unsigned i = 0; i < count && n > 0; i++) {
    size_t file = files[skv_prng_below(&rng, n)];
    size_t size = used_size(&ref->image.files[file]);
    if (size == 0) continue;
    uint8_t x = (uint8_t)(1u << skv_prng_below(&rng, 8));
    if (skv_prng_below(&rng, 2)) x = (uint8_t)(1 + skv_prng_below(&rng, 255));
    damage(ref, file, (size_t)skv_prng_below(&rng, size), x, i % 2);
  }
  if (kind != 8) CHECK(n > 0);
}

int main(int argc, char **argv) {
  static reference refs[2];
  unsigned places = argc > 2 ? (unsigned)atoi(argv[2]) : PLACES;
  rng.state = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
  for (int r = 0; r < 2; r++) {
    reference_make(&refs[r], r == 0);
    for (int kind = 0; kind < KINDS; kind++) {
      bool small = kind >= 5;
      damage_kind(&refs[r], kind, places / 16 * (small ? 1 : 2));
    }
    for (size_t i = 0; i < refs[r].image.count; i++) /* nothing changed */
      if (refs[r].image.files[i].size > 0) damage(&refs[r], i, 0, 0, i % 2);
    fixture_clear(&refs[r].image);
  }
  printf("%u exact, %u refused, %u within limit 1\n", exact, refused, limited);
  CHECK(exact > places / 10 && refused > places / 4);
  return check_end();
}
