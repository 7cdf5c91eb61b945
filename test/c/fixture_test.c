/*
 * Stores of released formats, kept in test/fixture: each is copied, opened,
 * checked, compared with what it must hold, written and opened again; with a
 * newer format number it is refused, and nothing in it changes.
 *
 *   test/fixture/format-N/        a store, without LOCK and SHARED
 *   test/fixture/format-N.tsv     its rows: table, key type, key, value (hex)
 *
 * build/test/c/fixture_test make DIRECTORY makes such a pair of this build's
 * format: small, with tables of each key type, segments of each compression at
 * two levels, an ingest, tombstones, and records in the log.
 */
#include <dirent.h>
#include <ftw.h>
#include <glob.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/util/hash.h"
#include "test/c/db_fixture.h"
#include "test/c/files.h"

static const char *const table_names[] = {"words", "blobs", "numbers"};

/* ---- Making -------------------------------------------------------------- */

static stratakv_store *open_at(const char *path, int compression) {
  stratakv_options options = fixture_options();
  stratakv_store *store = NULL;
  options.compression = compression;
  if (!OK(stratakv_open(path, &options, &fixture_err, &store))) exit(1);
  for (int t = 0; t < 3; t++) {
    stratakv_table_info info;
    OK(stratakv_table(store, table_names[t], t + 1, 1, &fixture_err, &info));
  }
  return store;
}

static size_t make_key(int table, uint32_t i, uint8_t key[32]) {
  if (table == 0) return (size_t)snprintf((char *)key, 32, "w\xc3\xb6rd %u", i);
  if (table == 2) {
    stratakv_int_key((int64_t)i * 1000003 - 20000000, key);
    return 8;
  }
  for (uint32_t n = 0; n < 1 + i % 20; n++) key[n] = (uint8_t)(i * 7 + n * 31);
  key[0] = (uint8_t)i;
  return 1 + i % 20;
}

static size_t make_value(uint32_t v, uint8_t value[400]) {
  uint8_t data[300];
  stratakv_typed typed = {.type = 1 + (int)(v % 5),
                          .integer = -(int64_t)v * 77,
                          .real = v / 7.0,
                          .data = data,
                          .size = v % 90 + (v % 40 == 0 ? 200 : 0)};
  for (size_t i = 0; i < typed.size; i++)
    data[i] = (uint8_t)('a' + (v + i) % 26);
  size_t n = stratakv_typed_head(&typed, value);
  if (typed.type != STRATAKV_TEXT && typed.type != STRATAKV_BLOB) return n;
  memcpy(value + n, data, typed.size);
  return n + typed.size;
}

static void put_rows(stratakv_store *store, uint32_t from, uint32_t to) {
  for (uint32_t i = from; i < to; i++) {
    uint8_t key[32], value[400];
    int t = (int)(i % 3);
    size_t n = make_key(t, i % 60, key), size = make_value(i, value);
    if (i % 8 == 7)
      OK(stratakv_delete(store, (uint32_t)t + 1, key, n, &fixture_err, NULL));
    else
      OK(stratakv_put(store, (uint32_t)t + 1, key, n, value, size, &fixture_err,
                      NULL));
  }
}

static void ingest_rows(stratakv_store *store) {
  stratakv_txn *txn = NULL;
  OK(stratakv_begin(store, &fixture_err, &txn));
  for (uint32_t i = 0; i < 300; i++) {
    uint8_t key[32], value[400];
    size_t n = make_key(2, 100 + i, key), size = make_value(i * 40 + 2, value);
    OK(stratakv_txn_put(txn, 3, key, n, value, size, STRATAKV_BLIND,
                        &fixture_err));
  }
  OK(stratakv_commit(txn, &fixture_err, NULL));
}

static void hex_to(FILE *f, const void *data, size_t size) {
  const uint8_t *p = data;
  for (size_t i = 0; i < size; i++) fprintf(f, "%02x", p[i]);
}

/* All rows, as the .tsv has them. */
static void write_rows(stratakv_store *store, FILE *f) {
  stratakv_table_info tables[8];
  size_t count;
  OK(stratakv_tables(store, tables, 8, &fixture_err, &count));
  for (size_t t = 0; t < count; t++) {
    stratakv_cursor *c = NULL;
    OK(stratakv_cursor_open(store, NULL, NULL, tables[t].id, NULL, &fixture_err,
                            &c));
    int rc = stratakv_cursor_first(c, &fixture_err);
    while (OK(rc) && stratakv_cursor_valid(c)) {
      size_t n;
      const void *p = stratakv_cursor_key(c, &n);
      fprintf(f, "%s\t%d\t", tables[t].name, tables[t].key_type);
      hex_to(f, p, n);
      fputc('\t', f);
      p = stratakv_cursor_value(c, &n);
      hex_to(f, p, n);
      fputc('\n', f);
      rc = stratakv_cursor_next(c, &fixture_err);
    }
    stratakv_cursor_close(c);
  }
}

static void make(const char *path) {
  char text[PATH_MAX];
  setenv("SKV_TEST_SEGMENT_SIZE", "3000", 1); /* several segments a run */
  stratakv_store *store = open_at(path, STRATAKV_COMPRESSION_ZSTD);
  put_rows(store, 0, 100);
  OK(stratakv_compact(store, NULL, NULL, &fixture_err));
  OK(stratakv_close(store, &fixture_err));
  store = open_at(path, STRATAKV_COMPRESSION_NONE);
  ingest_rows(store);
  put_rows(store, 100, 130);
  OK(stratakv_flush(store, &fixture_err));
  OK(stratakv_close(store, &fixture_err));
  store = open_at(path, STRATAKV_COMPRESSION_LZ4);
  put_rows(store, 130, 150);
  OK(stratakv_flush(store, &fixture_err));
  put_rows(store, 150, 160);
  const skv_version *version = store->db->state->version;
  size_t count, ingested = 0;
  skv_segref *const *segs = skv_version_segs(version, &count);
  for (size_t i = 0; i < count; i++) ingested += segs[i]->ingest_lsn != 0;
  printf("%zu runs, %zu in level 1, %zu ingested of %zu\n", version->run_count,
         version->levels[1].count, ingested, count);
  CHECK(version->run_count >= 2 && version->levels[1].count >= 1 &&
        ingested > 0);
  snprintf(text, sizeof text, "%s.tsv", path);
  FILE *f = fopen(text, "w");
  if (f == NULL) abort();
  write_rows(store, f);
  fclose(f);
  OK(stratakv_close(store, &fixture_err));
  snprintf(text, sizeof text, "%s/LOCK", path);
  remove(text);
  snprintf(text, sizeof text, "%s/SHARED", path);
  remove(text);
}

/* ---- Files --------------------------------------------------------------- */

static char base[PATH_MAX];

static uint8_t *read_file(const char *path, size_t *size) {
  FILE *f = fopen(path, "rb");
  if (f == NULL) abort();
  fseek(f, 0, SEEK_END);
  *size = (size_t)ftell(f);
  rewind(f);
  uint8_t *bytes = fixture_alloc(*size);
  if (fread(bytes, 1, *size, f) != *size) abort();
  fclose(f);
  return bytes;
}

static void copy_store(const char *from, const char *to) {
  DIR *dir = opendir(from);
  struct dirent *entry;
  if (dir == NULL || mkdir(to, 0700) != 0) abort();
  while ((entry = readdir(dir)) != NULL) {
    char path[PATH_MAX];
    size_t size;
    if (entry->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "%s/%s", from, entry->d_name);
    uint8_t *bytes = read_file(path, &size);
    snprintf(path, sizeof path, "%s/%s", to, entry->d_name);
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(bytes, 1, size, f) != size) abort();
    fclose(f);
    free(bytes);
  }
  closedir(dir);
}

/* A checksum over names and bytes. */
static uint64_t sum_of(const char *path) {
  DIR *dir = opendir(path);
  struct dirent *entry;
  uint64_t sum = 0;
  while (dir != NULL && (entry = readdir(dir)) != NULL) {
    char file[PATH_MAX];
    size_t size;
    if (entry->d_name[0] == '.') continue;
    snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
    uint8_t *bytes = read_file(file, &size);
    sum += skv_checksum(bytes, size,
                        skv_checksum(entry->d_name, strlen(entry->d_name), 1));
    free(bytes);
  }
  closedir(dir);
  return sum;
}

static int remove_one(const char *path, const struct stat *st, int kind,
                      struct FTW *ftw) {
  SKV_UNUSED(st);
  SKV_UNUSED(kind);
  SKV_UNUSED(ftw);
  return remove(path);
}

/* ---- Testing ------------------------------------------------------------- */

static void compare_rows(stratakv_store *store, const char *tsv) {
  size_t want_size, size = 0;
  char *have = NULL;
  uint8_t *want = read_file(tsv, &want_size);
  FILE *f = open_memstream(&have, &size);
  write_rows(store, f);
  fclose(f);
  CHECK(want_size > 1000 && size == want_size && memcmp(have, want, size) == 0);
  free(have);
  free(want);
}

static stratakv_store *open_copy(const char *path, int mmap, int read_only) {
  stratakv_options options = fixture_options();
  stratakv_store *store = NULL;
  options.create = 0;
  options.mmap = mmap;
  options.read_only = read_only;
  OK(stratakv_open(path, &options, &fixture_err, &store));
  return store;
}

static void test_opens(const char *from, const char *tsv) {
  char path[PATH_MAX + 16];
  static int number;
  snprintf(path, sizeof path, "%s/copy%d", base, number++);
  copy_store(from, path);
  uint64_t before = sum_of(path);
  stratakv_store *store = open_copy(path, 0, 1);
  compare_rows(store, tsv);
  OK(stratakv_check(store, NULL, &fixture_err));
  OK(stratakv_close(store, &fixture_err));
  CHECK(sum_of(path) == before);
  for (int round = 0; round < 3; round++) {
    store = open_copy(path, round % 2, 0);
    compare_rows(store, tsv);
    OK(stratakv_check(store, NULL, &fixture_err));
    OK(stratakv_put(store, 1, "new", 3, "\5", 1, &fixture_err, NULL));
    if (round == 1) OK(stratakv_compact(store, NULL, NULL, &fixture_err));
    if (round == 2) OK(stratakv_flush(store, &fixture_err));
    OK(stratakv_delete(store, 1, "new", 3, &fixture_err, NULL));
    OK(stratakv_close(store, &fixture_err));
  }
}

/* A file whose header says that it is of the next format. */
static void test_refused(const char *from, const char *pattern) {
  char path[PATH_MAX + 16], file[PATH_MAX + 64];
  static int number;
  glob_t found;
  size_t size;
  snprintf(path, sizeof path, "%s/newer%d", base, number++);
  copy_store(from, path);
  snprintf(file, sizeof file, "%s/%s", path, pattern);
  if (!CHECK(glob(file, 0, NULL, &found) == 0 && found.gl_pathc == 1)) return;
  uint8_t *bytes = read_file(found.gl_pathv[0], &size);
  skv_put32(bytes + 8, skv_get32(bytes + 8) + 1);
  skv_put64(bytes + 56, skv_checksum(bytes, 56, 0));
  FILE *f = fopen(found.gl_pathv[0], "wb");
  if (f == NULL || fwrite(bytes, 1, size, f) != size) abort();
  fclose(f);
  free(bytes);
  globfree(&found);
  uint64_t before = sum_of(path);
  stratakv_store *store = NULL;
  stratakv_options options = fixture_options();
  bool is_current = strcmp(pattern, "CURRENT") == 0;
  for (int read_only = is_current ? 0 : 1; read_only < 2; read_only++) {
    options.read_only = read_only;
    options.create = !read_only;
    FAILS(STRATAKV_NOTADB, stratakv_open(path, &options, &fixture_err, &store));
  }
  CHECK(sum_of(path) == before);
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "make") == 0) {
    make(argv[2]);
    return check_end();
  }
  char made[] = "build/tmp/fixture_test.XXXXXX";
  files_begin();
  if (mkdtemp(made) == NULL || realpath(made, base) == NULL) return 1;
  glob_t found;
  CHECK(glob("test/fixture/format-*.tsv", 0, NULL, &found) == 0);
  for (size_t i = 0; i < found.gl_pathc; i++) {
    char from[PATH_MAX];
    snprintf(from, sizeof from, "%.*s", (int)strlen(found.gl_pathv[i]) - 4,
             found.gl_pathv[i]);
    check_where = from;
    test_opens(from, found.gl_pathv[i]);
    test_refused(from, "CURRENT");
    test_refused(from, "*.manifest");
    check_where = "";
  }
  CHECK(found.gl_pathc >= SKV_FORMAT);
  globfree(&found);
  nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
  return check_end();
}
