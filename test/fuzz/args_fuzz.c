/*
 * The arguments of CREATE VIRTUAL TABLE: any texts give options in their
 * ranges, or a sentence; options written out again parse to the same.
 *
 * INPUT  Arguments, each ended by a zero byte.
 */
#include "ext/sqlite/args.h"
#include "test/fuzz/fuzz.h"

#define ARGS_MAX 16

size_t fuzz_repair(uint8_t *data, size_t size, size_t max, skv_prng *rng) {
  (void)data;
  (void)max;
  (void)rng;
  return size;
}

static void check_ranges(const skv_sql_args *a) {
  FUZZ_CHECK(memchr(a->path, 0, sizeof a->path) != NULL);
  FUZZ_CHECK(memchr(a->table, 0, sizeof a->table) != NULL);
  FUZZ_CHECK(a->table[0] != 0);
  FUZZ_CHECK(skv_sql_key_type_name(a->key_type) != NULL);
  FUZZ_CHECK(a->sync >= STRATAKV_SYNC_FULL && a->sync <= STRATAKV_SYNC_OFF);
  FUZZ_CHECK(a->busy_timeout_ms <= 600000);
  FUZZ_CHECK(a->memory >= (uint64_t)4 << 20 && a->memory <= (uint64_t)64 << 30);
  FUZZ_CHECK(a->compression >= 0 &&
             a->compression <= STRATAKV_COMPRESSION_ZSTD);
  FUZZ_CHECK(a->filter_bits >= 0 && a->filter_bits <= 20);
  FUZZ_CHECK((a->background | a->mmap | a->is_read_only | a->is_direct_only) <
             2);
}

/* A quoted copy: each quote twice. */
static void quote(const char *text, char *out) {
  *out++ = '\'';
  for (; *text; text++) {
    *out++ = *text;
    if (*text == '\'') *out++ = '\'';
  }
  *out++ = '\'';
  *out = 0;
}

static void check_again(const skv_sql_args *a) {
  static const char *const keys[] = {"text", "blob", "int"};
  static const char *const syncs[] = {"full", "normal", "off"};
  static char texts[8][2 * SKV_SQL_MAX_PATH + 16];
  const char *argv[8];
  char message[300];
  skv_sql_args b;
  int n = 0;
  if (a->path[0] != 0) quote(a->path, texts[n++]);
  snprintf(texts[n++], 200, "table=%s", a->table);
  snprintf(texts[n++], 200, " KEY = '%s' ", keys[a->key_type - 1]);
  snprintf(texts[n++], 200, "sync=%s", syncs[a->sync - STRATAKV_SYNC_FULL]);
  snprintf(texts[n++], 200, "busy_timeout=%u", (unsigned)a->busy_timeout_ms);
  snprintf(texts[n++], 200, "memory=%llu", (unsigned long long)a->memory);
  snprintf(texts[n++], 200, "filter_bits=%d", a->filter_bits);
  for (int i = 0; i < n; i++) argv[i] = texts[i];
  skv_sql_args_init(&b);
  FUZZ_CHECK(skv_sql_args_parse(&b, n, argv, message, sizeof message));
  FUZZ_CHECK(strcmp(a->path, b.path) == 0 && strcmp(a->table, b.table) == 0);
  FUZZ_CHECK(a->key_type == b.key_type && a->sync == b.sync &&
             a->busy_timeout_ms == b.busy_timeout_ms && a->memory == b.memory &&
             a->filter_bits == b.filter_bits);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const char *argv[ARGS_MAX];
  char message[300];
  int argc = 0;
  char *text = fuzz_alloc(size + 1), *p = text;
  if (size > 0) memcpy(text, data, size);
  while (p <= text + size && argc < ARGS_MAX) {
    argv[argc++] = p;
    p += strlen(p) + 1;
  }
  skv_sql_args args;
  skv_sql_args_init(&args);
  message[0] = 0;
  memset(message, 'x', sizeof message);
  int ok = skv_sql_args_parse(&args, argc, argv, message, sizeof message);
  check_ranges(&args);
  if (ok)
    check_again(&args);
  else
    FUZZ_CHECK(message[0] != 0 && memchr(message, 0, sizeof message) != NULL);
  for (int i = 0; i + 1 < argc; i += 2) { /* as the command `config` does */
    skv_sql_args_set(&args, argv[i], argv[i + 1], message, sizeof message);
    check_ranges(&args);
  }
  skv_sql_name_clashes(argv[0]);
  free(text);
  return 0;
}
