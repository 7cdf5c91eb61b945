/*
 * stratakv_salvage.
 *
 *   1  whole stores: the same contents, no finding, the old store untouched;
 *      with a sorter that has room for little, too
 *   2  one byte changed in every file, at many places: what the damage did not
 *      touch is kept, with its value, and something is reported
 *   3  files gone: CURRENT, the manifest, a log, a segment, all but segments;
 *      a manifest with an unfinished edit at its end
 *   4  segments without their footer, or in each other's place
 *   5  what is refused; a newer format is, and a damaged number of it not, for
 *      it is none; it can be stopped; a store of
 *      which nobody can tell whether it is open, or that is just being opened
 *   6  a large transaction, before and after its segments have names
 *   7  logs that were cut, wherever, or are of another store; a prepared
 *      transaction that was rolled back, and one of which that is lost
 *   8  the tail of the newest log gone: reported if a clean close, the file's
 *      size or SHARED vouches for it, and else not; one log in another's place
 *   9  files full of what looks like long records, edits and blocks: what is
 *      whole behind it is found, soon, it is said that not all of it was tried,
 *      and the search can be stopped
 *
 * Soak: 1
 */
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/db/salvage.h"
#include "engine/os/env_fault.h"
#include "engine/seg/seg_footer.h"
#include "engine/util/hash.h"
#include "engine/util/point.h"
#include "test/c/db_fixture.h"
#include "test/c/files.h"
#include "test/c/harness.h"
#include "test/c/pretend.h"

#define ROWS 500
#define TABLES 2

typedef struct world {
  skv_env *env;
  uint32_t rows[TABLES][ROWS];
  uint32_t last; /* greatest value ever written */
} world;

static void world_fill(world *w, uint64_t seed, uint32_t steps) {
  skv_prng rng = {seed};
  stratakv_options options = fixture_options();
  stratakv_store *store = NULL;
  options.compression = (int)(seed % 3);
  memset(w, 0, sizeof *w);
  w->env = skv_env_mem_new();
  skv_mem_env_of(w->env)->fs->prng = (skv_prng){seed}; /* the store's id */
  if (!OK(skv_open_in(w->env, FIXTURE_PATH, &options, &fixture_err, &store)))
    exit(1);
  for (int t = 0; t < TABLES; t++) {
    stratakv_table_info info;
    OK(stratakv_table(store, t ? "two" : "one", t + 1, 1, &fixture_err, &info));
  }
  for (uint32_t i = 0; i < steps; i++) {
    uint32_t t = (uint32_t)skv_prng_below(&rng, TABLES);
    uint32_t row = (uint32_t)skv_prng_below(&rng, ROWS);
    uint32_t v = skv_prng_below(&rng, 5) == 0 ? 0 : ++w->last;
    OK(fixture_put(store, t + 1, row, v, NULL));
    w->rows[t][row] = v;
    if (i % 300 == 299) OK(stratakv_flush(store, &fixture_err));
    if (i % 1000 == 700) OK(stratakv_compact(store, NULL, NULL, &fixture_err));
    if (i == steps / 2) {
      stratakv_txn *txn = NULL;
      OK(stratakv_begin(store, &fixture_err, &txn));
      for (uint32_t r = 0; r < 400; r++) {
        v = r % 9 == 0 ? 0 : ++w->last;
        OK(fixture_txn_put(txn, 1, r, v));
        w->rows[0][r] = v;
      }
      OK(stratakv_commit(txn, &fixture_err, NULL));
    }
  }
  OK(stratakv_close(store, &fixture_err));
}

/* Rows of /new that are not the world's; -1: it is no sound store. */
static int differences(const world *w, skv_env *env) {
  stratakv_options options = fixture_options();
  stratakv_store *store = NULL;
  uint32_t rows[ROWS];
  int count = 0;
  options.create = 0;
  if (!OK(skv_open_in(env, "/new", &options, &fixture_err, &store))) return -1;
  OK(stratakv_check(store, NULL, &fixture_err));
  for (uint32_t t = 0; t < TABLES; t++) {
    if (stratakv_get(store, NULL, t + 1, "x", 1, NULL, NULL) ==
        STRATAKV_ERROR) {
      memset(rows, 0, sizeof rows); /* that table is gone */
    } else {
      OK(fixture_scan(store, t + 1, rows, ROWS));
    }
    for (uint32_t i = 0; i < ROWS; i++) {
      count += rows[i] != w->rows[t][i];
      CHECK(rows[i] <= w->last);
    }
  }
  OK(fixture_put(store, 1, 3, 9, NULL));
  OK(stratakv_close(store, &fixture_err));
  return count;
}

static bool images_equal(const fixture_image *a, const fixture_image *b) {
  bool equal = a->count == b->count;
  for (size_t i = 0; equal && i < a->count; i++) {
    const fixture_file *file = &a->files[i];
    const fixture_file *other =
        fixture_find((fixture_image *)(uintptr_t)b, file->name);
    equal = other && other->size == file->size &&
            memcmp(other->bytes, file->bytes, file->size) == 0;
  }
  return equal;
}

/* Salvage an image in a world of its own. */
static int salvage_image(const world *w, const fixture_image *image,
                         stratakv_salvaged *out) {
  skv_env *env = fixture_world(image);
  int count = -1;
  int rc = skv_salvage_in(env, FIXTURE_PATH, "/new", NULL, &fixture_err, out);
  if (OK(rc)) count = differences(w, env);
  fixture_image after = fixture_take(env);
  CHECK(images_equal(image, &after));
  fixture_clear(&after);
  skv_env_mem_free(env);
  return count;
}

/* ---- 1: whole ------------------------------------------------------------ */

static void test_whole(uint64_t seed) {
  world w;
  stratakv_salvaged out;
  world_fill(&w, seed, 1 + (uint32_t)(seed * 37 % 2000));
  fixture_image image = fixture_take(w.env);
  CHECK(salvage_image(&w, &image, &out) == 0);
  CHECK(out.findings == 0 && out.tables == TABLES);
  uint64_t live = 0;
  for (int t = 0; t < TABLES; t++)
    for (int i = 0; i < ROWS; i++) live += w.rows[t][i] != 0;
  CHECK(out.entries == live);
  setenv("SKV_TEST_SORT_BYTES", "2000", 1);
  CHECK(salvage_image(&w, &image, &out) == 0);
  CHECK(out.findings == 0 && out.entries == live);
  unsetenv("SKV_TEST_SORT_BYTES");
  fixture_clear(&image);
  skv_env_mem_free(w.env);
}

/* ---- 2: one byte --------------------------------------------------------- */

static uint64_t damaged_stores;

static void test_damage(uint64_t seed) {
  world w;
  skv_prng rng = {seed * 77};
  stratakv_salvaged out;
  world_fill(&w, seed, 930); /* the last 30 in the log */
  fixture_image image = fixture_take(w.env);
  for (size_t i = 0; i < image.count && check_failures == 0; i++) {
    fixture_file *file = &image.files[i];
    skv_name name = skv_name_parse(file->name);
    if (name.kind == SKV_NAME_TMP || file->size == 0) continue;
    if (name.kind == SKV_NAME_FIXED && strcmp(file->name, "CURRENT") != 0)
      continue;
    for (int n = 0; n < 35 && check_failures == 0; n++) {
      uint64_t most = name.kind == SKV_NAME_WAL ? 3000 : file->size;
      uint64_t at = skv_prng_below(&rng, most < file->size ? most : file->size);
      uint8_t mask = (uint8_t)(1 + skv_prng_below(&rng, 255));
      if (name.kind == SKV_NAME_SEG && n < 2) at = file->size - 1 - 60u * n;
      file->bytes[at] ^= mask;
      int lost = salvage_image(&w, &image, &out);
      file->bytes[at] ^= mask;
      damaged_stores++;
      if (strcmp(file->name, "CURRENT") == 0) CHECK(lost == 0);
      if (lost > 0) CHECK(out.findings > 0);
      /* A block, or a record. */
      if (name.kind == SKV_NAME_SEG) CHECK(lost <= 40 && out.findings > 0);
      if (name.kind == SKV_NAME_WAL) CHECK(lost <= 1 || at < SKV_WAL_HEADER);
      if (check_failures)
        printf("%s at %" PRIu64 " of %zu: %d lost, %" PRIu64 " findings\n",
               file->name, at, file->size, lost, out.findings);
    }
  }
  fixture_clear(&image);
  skv_env_mem_free(w.env);
}

/* ---- 3: files gone ------------------------------------------------------- */

static fixture_image without(const fixture_image *image, int kind,
                             const char *name) {
  fixture_image copy = {0};
  for (size_t i = 0; i < image->count; i++) {
    const fixture_file *f = &image->files[i];
    if (strcmp(f->name, name) == 0) continue;
    if (kind != 0 && skv_name_parse(f->name).kind == kind) continue;
    fixture_add(&copy, f->name, f->bytes, f->size);
  }
  return copy;
}

static bool image_has(const fixture_image *image, int kind) {
  for (size_t i = 0; i < image->count; i++)
    if (skv_name_parse(image->files[i].name).kind == kind) return true;
  return false;
}

static void test_gone(void) {
  world w;
  stratakv_salvaged out;
  world_fill(&w, 12, 950); /* the last 50 in the log */
  fixture_image image = fixture_take(w.env);
  fixture_image less = without(&image, 0, "CURRENT");
  CHECK(salvage_image(&w, &less, &out) == 0 && out.findings == 1);
  fixture_clear(&less);
  /* Names are lost, deleted entries may be back, nothing else is wrong. */
  less = without(&image, SKV_NAME_MANIFEST, "CURRENT");
  int count = salvage_image(&w, &less, &out);
  CHECK(count >= 0 && count < 150 && out.findings >= 3 && out.tables == TABLES);
  fixture_clear(&less);
  less = without(&image, SKV_NAME_SEG, "");
  CHECK(salvage_image(&w, &less, &out) > 0 && out.findings > 0);
  fixture_clear(&less);
  less = without(&image, SKV_NAME_WAL, "");
  CHECK(salvage_image(&w, &less, &out) > 0 && out.findings > 0);
  fixture_clear(&less);
  fixture_clear(&image);
  skv_env_mem_free(w.env);
}

static fixture_file *the_manifest(fixture_image *image) {
  for (size_t i = 0; i < image->count; i++)
    if (skv_name_parse(image->files[i].name).kind == SKV_NAME_MANIFEST)
      return &image->files[i];
  exit(1);
}

static void manifest_resize(fixture_file *manifest, size_t size, size_t more) {
  uint8_t *bytes = fixture_alloc(size + more);
  memcpy(bytes, manifest->bytes, size);
  memset(bytes + size, 0x5a, more);
  free(manifest->bytes);
  manifest->bytes = bytes;
  manifest->size = size + more;
}

/* Behind the last edit the start of a next one: nothing is missing. The same
 * behind any edit: either nothing is, or files that were removed since are,
 * and something is reported. */
static void test_torn(void) {
  world w;
  stratakv_salvaged out;
  unsigned whole = 0, reported = 0;
  uint8_t id[16];
  uint64_t number, at = SKV_MANIFEST_HEADER;
  skv_edit_info edit;
  world_fill(&w, 12, 1750);
  fixture_image image = fixture_take(w.env);
  fixture_file *manifest = the_manifest(&image);
  OK(skv_manifest_header(manifest->bytes, manifest->size, manifest->name,
                         &fixture_err, id, &number));
  while (skv_manifest_edit_at(manifest->bytes, manifest->size, id, number, at,
                              &edit)) {
    fixture_image torn = fixture_copy(&image);
    at = edit.end;
    manifest_resize(the_manifest(&torn), (size_t)at, 1 + (size_t)at % 200);
    int lost = salvage_image(&w, &torn, &out);
    CHECK(lost == 0);
    if (at == manifest->size) CHECK(lost == 0 && out.findings == 0);
    whole += out.findings == 0;
    reported += out.findings > 0;
    fixture_clear(&torn);
  }
  CHECK(at == manifest->size && whole > 0 && reported > 0);
  fixture_clear(&image);
  skv_env_mem_free(w.env);
}

/* ---- 4: which segment it is ---------------------------------------------- */

static void test_uid(void) {
  world w;
  stratakv_salvaged out;
  world_fill(&w, 21, 1450);
  fixture_image image = fixture_take(w.env);
  fixture_file *segs[2] = {NULL, NULL};
  for (size_t i = 0; i < image.count; i++)
    if (skv_name_parse(image.files[i].name).kind == SKV_NAME_SEG) {
      segs[0] = segs[1];
      segs[1] = &image.files[i];
    }
  if (!CHECK(segs[0] != NULL)) exit(1);
  /* Up to the index every byte of the data is there. */
  static const size_t cuts[] = {1, 8, 63, 64, 65, 100};
  for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
    segs[1]->size -= cuts[i];
    CHECK(salvage_image(&w, &image, &out) == 0 && out.findings > 0);
    segs[1]->size += cuts[i];
  }
  fixture_file swap = *segs[0];
  segs[0]->bytes = segs[1]->bytes;
  segs[0]->size = segs[1]->size;
  segs[1]->bytes = swap.bytes;
  segs[1]->size = swap.size;
  CHECK(salvage_image(&w, &image, &out) == 0 && out.findings >= 2);
  fixture_clear(&image);
  skv_env_mem_free(w.env);
}

/* ---- 5: refused, stopped ------------------------------------------------- */

static int count_down(void *arg, double done) {
  int *left = arg;
  CHECK(done >= 0 && done <= 1);
  return --*left == 0;
}

static int salvage(const world *w, const char *from, const char *to,
                   const stratakv_watch *watch) {
  return skv_salvage_in(w->env, from, to, watch, &fixture_err, NULL);
}

/* CURRENT, a manifest, or a segment of format 2, with checksums that hold. */
static void test_newer(void) {
  world w;
  stratakv_salvaged out;
  world_fill(&w, 7, 700);
  fixture_image image = fixture_take(w.env);
  for (size_t i = 0; i < image.count; i++) {
    fixture_file *file = &image.files[i];
    int kind = skv_name_parse(file->name).kind;
    bool is_seg = kind == SKV_NAME_SEG;
    if (strcmp(file->name, "CURRENT") != 0 && kind != SKV_NAME_MANIFEST &&
        !is_seg)
      continue;
    size_t at = is_seg ? file->size - 64 : 0;
    uint8_t kept[64], *head = file->bytes + at;
    memcpy(kept, head, 64);
    skv_put32(head + 8, SKV_FORMAT + 1);
    skv_put64(head + 56, skv_checksum(head, 56, at));
    if (is_seg) {
      CHECK(salvage_image(&w, &image, &out) > 0 && out.findings > 0);
    } else {
      skv_env *env = fixture_world(&image);
      FAILS(STRATAKV_NOTADB, skv_salvage_in(env, FIXTURE_PATH, "/new", NULL,
                                            &fixture_err, NULL));
      CHECK(strstr(fixture_err.message, "newer format") != NULL);
      skv_env_mem_free(env);
    }
    for (int fill = 0; !is_seg && fill < 2; fill++) {
      /* A magic alone is of no format, and no magic of none of ours. */
      memset(head + (fill ? 0 : 8), fill ? 0xff : 0, fill ? 64 : 56);
      CHECK(salvage_image(&w, &image, &out) >= 0 && out.findings > 0);
    }
    memcpy(head, kept, 64);
  }
  fixture_clear(&image);
  skv_env_mem_free(w.env);
}

/* Another number alone, without a checksum that holds, is no newer format. */
static void test_damaged_format(void) {
  world w;
  stratakv_salvaged out;
  world_fill(&w, 7, 700);
  fixture_image image = fixture_take(w.env);
  uint8_t *current = fixture_find(&image, "CURRENT")->bytes, kept[64];
  memcpy(kept, current, sizeof kept);
  for (int i = 0; i < 33; i++) {
    if (i < 32)
      current[8 + i / 8] ^= (uint8_t)(1u << i % 8);
    else
      memcpy(current + 10, "\xaa\x55\xaa\x55", 4);
    skv_env *env = fixture_world(&image);
    stratakv_options options = fixture_options();
    stratakv_store *store = NULL;
    FAILS(STRATAKV_CORRUPT,
          skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, &store));
    skv_env_mem_free(env);
    CHECK(salvage_image(&w, &image, &out) == 0 && out.findings == 1);
    memcpy(current, kept, sizeof kept);
  }
  the_manifest(&image)->bytes[9] ^= 1;
  CHECK(salvage_image(&w, &image, &out) >= 0 && out.findings > 1);
  fixture_clear(&image);
  skv_env_mem_free(w.env);
}

static int see_first(void *arg, double done) {
  double *first = arg;
  if (*first < 0) *first = done;
  return 0;
}

/* Of a store with logs alone nothing is done at the beginning. */
static void test_progress(void) {
  world w;
  double first = -1;
  stratakv_watch watch = {.progress = see_first, .arg = &first};
  stratakv_options options = fixture_options();
  stratakv_store *store = NULL;
  world_fill(&w, 4, 0);
  OK(skv_open_in(w.env, FIXTURE_PATH, &options, &fixture_err, &store));
  for (uint32_t i = 0; i < 50; i++) OK(fixture_put(store, 1, i, i + 1, NULL));
  OK(stratakv_close(store, &fixture_err));
  fixture_image image = fixture_take(w.env);
  CHECK(!image_has(&image, SKV_NAME_SEG));
  OK(salvage(&w, FIXTURE_PATH, "/new", &watch));
  CHECK(first >= 0 && first < 0.5);
  fixture_clear(&image);
  skv_env_mem_free(w.env);
}

static void test_refused(void) {
  world w;
  world_fill(&w, 4, 1500);
  skv_dir *dir = NULL;
  FAILS(STRATAKV_CANTOPEN, salvage(&w, "/nothing", "/new", NULL));
  OK(w.env->dir_open(w.env, NULL, "/empty", SKV_DIR_CREATE, &fixture_err,
                     &dir));
  w.env->dir_close(dir);
  FAILS(STRATAKV_CANTOPEN, salvage(&w, "/empty", "/new", NULL));
  FAILS(STRATAKV_CANTOPEN, salvage(&w, FIXTURE_PATH, FIXTURE_PATH, NULL));
  FAILS(STRATAKV_CANTOPEN, salvage(&w, FIXTURE_PATH, "/store/new", NULL));
  FAILS(STRATAKV_ERROR, salvage(&w, "", "/new", NULL));
  stratakv_options options = fixture_options();
  stratakv_store *store = NULL;
  OK(skv_open_in(w.env, FIXTURE_PATH, &options, &fixture_err, &store));
  FAILS(STRATAKV_BUSY, salvage(&w, FIXTURE_PATH, "/new", NULL));
  OK(stratakv_close(store, &fixture_err));
  int rc = STRATAKV_INTERRUPT, rounds = 0;
  for (int n = 1; rc == STRATAKV_INTERRUPT; n++) {
    int left = n;
    stratakv_watch watch = {.progress = count_down, .arg = &left};
    rc = salvage(&w, FIXTURE_PATH, "/new", &watch);
    rounds += rc == STRATAKV_INTERRUPT;
  }
  CHECK(rc == STRATAKV_OK && rounds > 0);
  CHECK(differences(&w, w.env) == 0);
  FAILS(STRATAKV_CANTOPEN, salvage(&w, FIXTURE_PATH, "/new", NULL));
  skv_env_mem_free(w.env);
}

/* Another process has one lock of the store, or of where the copy goes, and
 * nothing else. */
static void refused_while(const world *w, const char *path, unsigned which,
                          int want, const char *why) {
  skv_env *other = skv_env_mem_process(w->env);
  skv_dir *dir = NULL;
  skv_file *lock = NULL;
  int flags = SKV_FILE_WRITE | SKV_FILE_CREATE;
  OK(other->dir_open(other, NULL, path, SKV_DIR_CREATE, &fixture_err, &dir));
  OK(other->file_open(dir, "LOCK", flags, &fixture_err, &lock));
  OK(other->file_lock(lock, which, 1, SKV_SHARED, &fixture_err));
  FAILS(want, salvage(w, FIXTURE_PATH, "/new", NULL));
  CHECK(strstr(fixture_err.message, why) != NULL);
  other->file_close(lock);
  other->dir_close(dir);
  skv_env_mem_free(other);
}

static void test_locked(void) {
  static const unsigned locks[] = {SKV_LOCK_ATTACH, SKV_LOCK_ALIVE};
  world w;
  world_fill(&w, 4, 300);
  for (int i = 0; i < 2; i++) {
    refused_while(&w, FIXTURE_PATH, locks[i], STRATAKV_BUSY, "is open; close");
    refused_while(&w, "/new", locks[i], STRATAKV_CANTOPEN,
                  "being used by another process");
  }
  OK(salvage(&w, FIXTURE_PATH, "/new", NULL));
  skv_env_mem_free(w.env);
}

static int (*info_plain)(skv_dir *, skv_err *, skv_dir_info *);

static int info_of_read_only(skv_dir *dir, skv_err *err, skv_dir_info *out) {
  int rc = info_plain(dir, err, out);
  out->is_read_only = true;
  return rc;
}

static void lock_fails(const world *w, const skv_fault *fault, const char *to,
                       int want) {
  skv_env *env = skv_env_fault_new(w->env);
  if (!CHECK(env != NULL)) exit(1);
  skv_env_fault_set(env, fault);
  FAILS(want, skv_salvage_in(env, FIXTURE_PATH, to, NULL, &fixture_err, NULL));
  CHECK(skv_env_fault_fired(env) > 0);
  skv_env_fault_free(env);
}

/* That LOCK is not to be had does not say that nobody has it, unless it is
 * missing or nobody writes there. */
static void test_lock(void) {
  static const skv_fault many_files = {"file_open",       "LOCK", 1,    true,
                                       STRATAKV_CANTOPEN, false,  false},
                         no_memory = {"file_open",    "LOCK", 1,    false,
                                      STRATAKV_NOMEM, false,  false},
                         missing = {"file_open",       "LOCK", 1,    false,
                                    STRATAKV_NOTFOUND, false,  false},
                         no_locks = {"file_lock",    "LOCK", 1,    false,
                                     STRATAKV_IOERR, false,  false};
  world w;
  world_fill(&w, 4, 300);
  lock_fails(&w, &many_files, "/new", STRATAKV_CANTOPEN);
  lock_fails(&w, &no_memory, "/new", STRATAKV_NOMEM);
  lock_fails(&w, &no_locks, "/new", STRATAKV_IOERR);
  lock_fails(&w, &missing, "/new", STRATAKV_OK);
  info_plain = w.env->dir_info;
  w.env->dir_info = info_of_read_only;
  lock_fails(&w, &no_memory, "/other", STRATAKV_NOMEM);
  lock_fails(&w, &no_locks, "/other", STRATAKV_OK);
  skv_env_mem_free(w.env);
}

/* ---- 6: a large transaction ---------------------------------------------- */

/* Images of its commit: with its segments not named yet, and named. */
static struct ingest_images {
  skv_env *env;
  fixture_image pending, named;
} ingest;

static void ingest_hook(void *arg, const char *name) {
  SKV_UNUSED(arg);
  if (strcmp(name, "ingest.naming") == 0 && ingest.pending.count == 0)
    ingest.pending = fixture_take(ingest.env);
  if (strcmp(name, "rotate.turned") == 0 && ingest.pending.count > 0 &&
      ingest.named.count == 0)
    ingest.named = fixture_take(ingest.env);
}

/* Rows, and over some of them the transaction. */
static void ingest_world(world *w) {
  stratakv_options options = fixture_options();
  stratakv_store *store = NULL;
  stratakv_txn *txn = NULL;
  world_fill(w, 3, 0);
  OK(skv_open_in(w->env, FIXTURE_PATH, &options, &fixture_err, &store));
  for (uint32_t r = 0; r < 100; r++) {
    OK(fixture_put(store, 1, r, ++w->last, NULL));
    w->rows[0][r] = w->last;
  }
  OK(stratakv_begin(store, &fixture_err, &txn));
  for (uint32_t r = 50; r < 2 * ROWS; r++) {
    uint32_t v = r % 9 == 0 ? 0 : ++w->last, t = r % 2;
    OK(fixture_txn_put(txn, t + 1, r / 2, v));
    w->rows[t][r / 2] = v;
  }
  ingest.env = w->env;
  skv_point_set(ingest_hook, NULL);
  OK(stratakv_commit(txn, &fixture_err, NULL));
  skv_point_set(NULL, NULL);
  OK(stratakv_close(store, &fixture_err));
}

/* Its entries carry no LSN: the manifest gives it or, until the commit is
 * finished and where the manifest is gone, the log. */
static void test_ingest(void) {
  world w;
  stratakv_salvaged out;
  ingest_world(&w);
  CHECK(image_has(&ingest.pending, SKV_NAME_TMP));
  CHECK(image_has(&ingest.named, SKV_NAME_SEG));
  CHECK(salvage_image(&w, &ingest.named, &out) == 0 && out.findings == 0);
  CHECK(salvage_image(&w, &ingest.pending, &out) == 0 && out.findings == 0);
  fixture_image less = without(&ingest.named, SKV_NAME_MANIFEST, "CURRENT");
  CHECK(salvage_image(&w, &less, &out) == 0 && out.findings > 0);
  /* A damaged block is found once, though the log knows of the segment too. */
  uint64_t before = out.findings;
  for (size_t i = 0; i < less.count; i++)
    if (skv_name_parse(less.files[i].name).kind == SKV_NAME_SEG) {
      less.files[i].bytes[100] ^= 1;
      CHECK(salvage_image(&w, &less, &out) > 0 && out.findings == before + 1);
      break;
    }
  fixture_clear(&less);
  fixture_clear(&ingest.pending);
  fixture_clear(&ingest.named);
  skv_env_mem_free(w.env);
}

/* ---- 7: logs --------------------------------------------------------------- */

/* The log with the lowest number: sealed, and not flushed. */
static fixture_file *first_log(fixture_image *image) {
  fixture_file *first = NULL;
  for (size_t i = 0; i < image->count; i++) {
    fixture_file *file = &image->files[i];
    if (skv_name_parse(file->name).kind != SKV_NAME_WAL) continue;
    if (first == NULL || strcmp(file->name, first->name) < 0) first = file;
  }
  if (!CHECK(first != NULL)) exit(1);
  return first;
}

/* Files in a directory of the system, where no page is behind a file's last:
 * salvaged by a child, which lives. */
static void salvage_for_real(const fixture_image *image) {
  char base[] = "build/tmp/salvage_test.XXXXXX", path[96], to[96];
  skv_env *env = skv_env_posix();
  skv_dir *dir = NULL;
  files_begin();
  if (!CHECK(mkdtemp(base) != NULL)) return;
  snprintf(path, sizeof path, "%s/old", base);
  snprintf(to, sizeof to, "%s/new", base);
  OK(env->dir_open(env, NULL, path, SKV_DIR_CREATE, &fixture_err, &dir));
  for (size_t i = 0; i < image->count; i++)
    fixture_put_file(dir, &image->files[i]);
  env->dir_close(dir);
  pid_t child = fork();
  if (child == 0)
    _exit(stratakv_salvage(path, to, NULL, &fixture_err, NULL) != STRATAKV_OK);
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  char command[160];
  snprintf(command, sizeof command, "rm -rf '%s'", base);
  CHECK(system(command) == 0);
}

static void test_cut(void) {
  static const size_t sizes[] = {1, 40, 63, 64, 95, 96, 4095};
  world w;
  stratakv_salvaged out;
  ingest_world(&w);
  fixture_file *log = first_log(&ingest.named);
  size_t whole = log->size;
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    log->size = sizes[i];
    CHECK(salvage_image(&w, &ingest.named, &out) > 0 && out.findings > 0);
    salvage_for_real(&ingest.named);
  }
  /* Where a record ends nothing but the manifest says that more was there. */
  skv_wal_header header;
  skv_wal_record record;
  unsigned ends = 0;
  OK(skv_wal_header_decode(log->bytes, whole, log->name, NULL, &header));
  skv_wal_place place = {skv_wal_seed(&header), SKV_WAL_HEADER, header.prev, 0};
  while (skv_wal_read(log->bytes, whole, true, &place, &record) &&
         record.type != SKV_RECORD_SEAL) {
    log->size = (size_t)record.end;
    CHECK(salvage_image(&w, &ingest.named, &out) >= 0 && out.findings == 1);
    ends++;
  }
  CHECK(ends > 50);
  log->size = whole;
  fixture_clear(&ingest.pending);
  fixture_clear(&ingest.named);
  skv_env_mem_free(w.env);
}

/* The newest log of a world that nobody closed, or that was; its image. */
static fixture_image tail_world(world *w, bool close) {
  stratakv_options options = fixture_options();
  stratakv_store *store = NULL;
  fixture_image image = {0};
  world_fill(w, 4, 0);
  OK(skv_open_in(w->env, FIXTURE_PATH, &options, &fixture_err, &store));
  for (uint32_t r = 0; r < 20; r++) {
    OK(fixture_put(store, 1, r, ++w->last, NULL));
    w->rows[0][r] = w->last;
  }
  if (!close) image = fixture_take(w->env);
  OK(stratakv_close(store, &fixture_err));
  return close ? fixture_take(w->env) : image;
}

/* Salvage it in this boot or another: how much is lost, and reported. */
static int tail_lost(const world *w, const fixture_image *image, bool same_boot,
                     uint64_t *findings) {
  skv_env *env = fixture_world(image);
  stratakv_salvaged out = {0};
  if (same_boot) fixture_same_boot(env);
  OK(skv_salvage_in(env, FIXTURE_PATH, "/new", NULL, &fixture_err, &out));
  *findings = out.findings;
  int lost = differences(w, env);
  skv_env_mem_free(env);
  return lost;
}

/* From each record on the log is zeros, or the file ends. */
static void tail_cut(const world *w, fixture_image *image, bool same_boot,
                     bool is_known) {
  fixture_file *log = first_log(image);
  skv_wal_header header;
  skv_wal_record record;
  uint64_t findings;
  int left = 20;
  OK(skv_wal_header_decode(log->bytes, log->size, log->name, NULL, &header));
  skv_wal_place place = {skv_wal_seed(&header), SKV_WAL_HEADER, header.prev, 0};
  for (bool more = true; more; left--) {
    size_t at = (size_t)place.offset, size = log->size;
    more = skv_wal_read(log->bytes, size, true, &place, &record);
    uint8_t *kept = fixture_alloc(size - at);
    memcpy(kept, log->bytes + at, size - at);
    memset(log->bytes + at, 0, size - at);
    CHECK(tail_lost(w, image, same_boot, &findings) == left);
    CHECK(findings == (is_known && left > 0));
    log->size = at;
    CHECK(tail_lost(w, image, same_boot, &findings) == left && findings == 1);
    log->size = size;
    memcpy(log->bytes + at, kept, size - at);
    free(kept);
  }
  CHECK(left == -1);
}

/* Of what nothing vouches for nobody can know; SHARED's word counts in its
 * boot, if no sync failed, and as far as it can be. */
static void test_tail(void) {
  world w;
  fixture_image image = tail_world(&w, true);
  tail_cut(&w, &image, false, true);
  fixture_clear(&image);
  skv_env_mem_free(w.env);
  image = tail_world(&w, false);
  tail_cut(&w, &image, false, false);
  tail_cut(&w, &image, true, true);
  uint8_t *page = fixture_find(&image, "SHARED")->bytes;
  static const struct {
    size_t at;
    uint64_t word;
  } doubts[] = {
      {0, 0}, /* no magic */
      {offsetof(skv_shared, store_id), 1},
      {offsetof(skv_shared, fence), 1},
      {offsetof(skv_shared, durable), 4096},        /* nothing was synced */
      {offsetof(skv_shared, durable), UINT64_MAX}}; /* more than there is */
  for (size_t i = 0; i < sizeof doubts / sizeof *doubts; i++) {
    uint64_t kept = skv_get64(page + doubts[i].at);
    skv_put64(page + doubts[i].at, doubts[i].word);
    tail_cut(&w, &image, true, false);
    skv_put64(page + doubts[i].at, kept);
  }
  fixture_clear(&image);
  skv_env_mem_free(w.env);
}

/* A log in another's place: what stood there is lost. */
static void test_exchanged(void) {
  world w;
  stratakv_salvaged out;
  ingest_world(&w);
  fixture_file *log = first_log(&ingest.named), *other = NULL;
  for (size_t i = 0; i < ingest.named.count; i++) {
    fixture_file *file = &ingest.named.files[i];
    if (skv_name_parse(file->name).kind == SKV_NAME_WAL && file != log)
      other = file;
  }
  if (!CHECK(other != NULL)) exit(1);
  memcpy(log->bytes, other->bytes,
         log->size < other->size ? log->size : other->size);
  CHECK(salvage_image(&w, &ingest.named, &out) > 0 && out.findings == 1);
  fixture_clear(&ingest.pending);
  fixture_clear(&ingest.named);
  skv_env_mem_free(w.env);
}

/* As if it were not there. */
static void test_foreign(void) {
  world w, other;
  stratakv_salvaged out;
  world_fill(&w, 12, 950); /* the last 50 in the log */
  world_fill(&other, 13, 950);
  fixture_image image = fixture_take(w.env), theirs = fixture_take(other.env);
  fixture_image less = without(&image, SKV_NAME_WAL, "");
  int missing = salvage_image(&w, &less, &out);
  for (size_t i = 0; i < image.count; i++) {
    fixture_file *file = &image.files[i];
    if (skv_name_parse(file->name).kind != SKV_NAME_WAL) continue;
    fixture_file *log = fixture_find(&theirs, file->name);
    if (log == NULL) log = first_log(&theirs);
    memcpy(file->bytes, log->bytes, log->size);
  }
  CHECK(salvage_image(&w, &image, &out) == missing && out.findings > 0);
  fixture_clear(&less);
  fixture_clear(&theirs);
  fixture_clear(&image);
  skv_env_mem_free(other.env);
  skv_env_mem_free(w.env);
}

/* Where in a log the record of that type is. */
static uint64_t record_of(const fixture_file *log, uint8_t type) {
  skv_wal_header header;
  skv_wal_record record = {0};
  OK(skv_wal_header_decode(log->bytes, log->size, log->name, NULL, &header));
  skv_wal_place place = {skv_wal_seed(&header), SKV_WAL_HEADER, header.prev, 0};
  while (skv_wal_read(log->bytes, log->size, true, &place, &record))
    if (record.type == type) return record.offset;
  CHECK(false);
  return 0;
}

/* Only an ABORT that verifies undoes what was prepared. */
static void test_abort(void) {
  world w;
  stratakv_salvaged out;
  stratakv_options options = fixture_options();
  stratakv_store *store = NULL;
  stratakv_txn *txn = NULL;
  world_fill(&w, 4, 0);
  OK(skv_open_in(w.env, FIXTURE_PATH, &options, &fixture_err, &store));
  OK(stratakv_begin(store, &fixture_err, &txn));
  OK(fixture_txn_put(txn, 1, 1, 11));
  OK(stratakv_prepare(txn, &fixture_err));
  stratakv_rollback(txn);
  w.last = 12;
  OK(fixture_put(store, 1, 2, 12, NULL));
  w.rows[0][2] = 12;
  OK(stratakv_close(store, &fixture_err));
  fixture_image image = fixture_take(w.env);
  CHECK(salvage_image(&w, &image, &out) == 0 && out.findings == 0);
  fixture_file *log = first_log(&image);
  log->bytes[record_of(log, SKV_RECORD_ABORT)] ^= 1; /* its checksum */
  w.rows[0][1] = 11;
  CHECK(salvage_image(&w, &image, &out) == 0 && out.findings == 1);
  fixture_clear(&image);
  skv_env_mem_free(w.env);
}

/* ---- 9: pretended ---------------------------------------------------------- */

typedef struct listener {
  unsigned untried; /* findings that say so */
  double last;
  unsigned rests; /* told the same progress again: a search goes on */
  unsigned stop_at;
} listener;

static int hear_finding(void *arg, const stratakv_finding *finding) {
  listener *l = arg;
  if (strstr(finding->message, "could be tried")) l->untried++;
  return 0;
}

static int hear_progress(void *arg, double done) {
  listener *l = arg;
  l->rests += done == l->last;
  l->last = done;
  return l->stop_at != 0 && l->rests == l->stop_at;
}

/* Nothing is lost; `findings` are told, one of which is about what was not
 * tried, if that is not decided in the manifest. It can be stopped. */
static void salvage_pretended(const world *w, const fixture_image *image,
                              uint64_t findings, unsigned untried) {
  skv_env *env = fixture_world(image);
  stratakv_salvaged out = {0};
  listener l = {.last = -1};
  stratakv_watch watch = {hear_finding, hear_progress, &l};
  OK(skv_salvage_in(env, FIXTURE_PATH, "/new", &watch, &fixture_err, &out));
  CHECK(differences(w, env) == 0);
  CHECK(out.findings == findings && l.untried == untried && l.rests >= 2);
  l = (listener){.last = -1, .stop_at = 2};
  FAILS(STRATAKV_INTERRUPT, skv_salvage_in(env, FIXTURE_PATH, "/newer", &watch,
                                           &fixture_err, &out));
  CHECK(l.rests == 2);
  skv_env_mem_free(env);
}

/* The file grows by so many bytes at `at`; returns what was there. */
static uint8_t *file_part(fixture_file *file, size_t at, size_t bytes) {
  uint8_t *old = file->bytes;
  file->bytes = fixture_alloc(file->size + bytes);
  memcpy(file->bytes, old, at);
  file->size += bytes;
  return old;
}

/* The records of a log from the 25th on stand further behind. */
static bool part_log(fixture_file *log) {
  skv_wal_header header;
  skv_wal_record record;
  OK(skv_wal_header_decode(log->bytes, log->size, log->name, NULL, &header));
  skv_wal_place place = {skv_wal_seed(&header), SKV_WAL_HEADER, header.prev, 0};
  for (int i = 0; i < 25; i++)
    if (!skv_wal_read(log->bytes, log->size, true, &place, &record))
      return false;
  size_t size = log->size;
  uint8_t *old = file_part(log, (size_t)place.offset, PRETEND_BYTES);
  skv_wal_place to = place;
  pretend_records(log->bytes + place.offset, PRETEND_BYTES);
  to.offset += PRETEND_BYTES;
  while (skv_wal_read(old, size, true, &place, &record)) {
    memcpy(log->bytes + to.offset + SKV_RECORD_HEADER, record.payload.data,
           record.payload.size);
    skv_wal_encode(log->bytes + to.offset, record.type, record.payload.size,
                   record.durable, record.epoch, &to);
  }
  free(old);
  return true;
}

/* The second block of a segment and all behind it stand further behind; index
 * and footer are gone. */
static void part_seg(fixture_file *seg) {
  skv_seg_footer footer;
  const char *what;
  size_t end = seg->size - SKV_FOOTER_SIZE;
  OK(skv_footer_decode(seg->bytes + end, end, &footer, &what));
  size_t at = (size_t)skv_frame_size(skv_frame_stored(seg->bytes));
  CHECK(at < footer.index);
  seg->size = (size_t)footer.index;
  uint8_t *old = file_part(seg, at, PRETEND_BYTES);
  pretend_blocks(seg->bytes + at, PRETEND_BYTES);
  while (at < footer.index) {
    uint8_t *frame = seg->bytes + at + PRETEND_BYTES;
    uint32_t stored = skv_frame_stored(old + at);
    memcpy(frame, old + at, (size_t)skv_frame_size(stored));
    at += (size_t)skv_frame_seal(
        frame, stored, skv_frame_compression(frame), SKV_FRAME_DATA,
        skv_frame_seed(footer.uid, at + PRETEND_BYTES), NULL);
  }
  free(old);
}

/* Blocks whose checksums hold and that are none, one after the other in a
 * segment without an index: one finding, and one for the footer. */
static void test_joined(void) {
  world w;
  stratakv_salvaged out;
  world_fill(&w, 21, 1450);
  fixture_image image = fixture_take(w.env);
  skv_seg_footer footer;
  const char *what;
  for (size_t i = 0; i < image.count; i++) {
    fixture_file *seg = &image.files[i];
    if (skv_name_parse(seg->name).kind != SKV_NAME_SEG) continue;
    size_t end = seg->size - SKV_FOOTER_SIZE, at = 0;
    OK(skv_footer_decode(seg->bytes + end, end, &footer, &what));
    for (int n = 0; n < 4 && at < footer.index; n++) {
      uint8_t *frame = seg->bytes + at;
      uint32_t stored = skv_frame_stored(frame);
      memset(frame + SKV_FRAME_HEADER, 0, stored);
      at += (size_t)skv_frame_seal(frame, stored, 0, SKV_FRAME_DATA,
                                   skv_frame_seed(footer.uid, at), NULL);
    }
    seg->size = (size_t)footer.index;
    CHECK(salvage_image(&w, &image, &out) > 0 && out.findings == 2);
    break;
  }
  fixture_clear(&image);
  skv_env_mem_free(w.env);
}

static void test_pretended(void) {
  world w;
  unsigned logs = 0, segs = 0;
  world_fill(&w, 12, 950); /* the last 50 in the log */
  fixture_image image = fixture_take(w.env);
  for (size_t i = 0; i < image.count; i++) {
    fixture_image one = fixture_copy(&image);
    fixture_file *file = &one.files[i];
    int kind = skv_name_parse(file->name).kind;
    if (kind == SKV_NAME_WAL && file != first_log(&one)) { /* the newest */
      CHECK(part_log(file));
      salvage_pretended(&w, &one, 1, 1);
      logs++;
    } else if (kind == SKV_NAME_SEG && segs++ == 0) {
      part_seg(file);
      salvage_pretended(&w, &one, 2, 1);
    } else if (kind == SKV_NAME_MANIFEST) {
      size_t size = file->size;
      manifest_resize(file, size, PRETEND_BYTES);
      pretend_edits(file->bytes + size, PRETEND_BYTES);
      salvage_pretended(&w, &one, 2, 0);
    }
    fixture_clear(&one);
  }
  CHECK(logs == 1 && segs > 0);
  fixture_clear(&image);
  skv_env_mem_free(w.env);
}

int main(int argc, char **argv) {
  harness_begin(argc, argv);
  for (uint64_t n; harness_next(12, &n);) {
    test_whole(n);
    if (n % 3 == 1) test_damage(n);
  }
  if (harness.only == 0) {
    test_gone();
    test_torn();
    test_uid();
    test_ingest();
    test_cut();
    test_tail();
    test_exchanged();
    test_foreign();
    test_abort();
    test_newer();
    test_damaged_format();
    test_refused();
    test_lock();
    test_locked();
    test_progress();
    test_pretended();
    test_joined();
    harness_count("salvaged-damaged-stores", damaged_stores);
  }
  return check_end();
}
