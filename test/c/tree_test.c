/*
 * Versions, edits and manifests.
 *
 *   edits     what each operation does, and every kind that does not fit
 *   bytes     edits cut and changed at every byte: refused or harmless
 *   encode    a version written as an edit is the same version
 *   sharing   versions share segments and outlive each other
 *   memory    every allocation failing: NOMEM, nothing changed, no leak
 *   manifest  every byte flipped, every cut, torn appends, damage that is
 *             provable and damage that is not; opening and sharing of files
 *
 * Covers: INV-5, INV-8, INV-10, P2
 */
#include "engine/os/env.h"
#include "engine/tree/manifest.h"
#include "engine/tree/version_impl.h"
#include "engine/util/prng.h"
#include "test/c/tree_fixture.h"

/* ---- Edits --------------------------------------------------------------- */

static int apply(const skv_version *base, const skv_buf *edit,
                 skv_version **out) {
  return skv_version_apply(NULL, base, skv_buf_bytes(edit), 7, false,
                           &fixture_err, out);
}

/* Operations as text, "wal 2 100 4096; end 2 300; seg 0/100 5 a c 1". */
static void edit_text(skv_buf *edit, const char *text) {
  char copy[1024];
  snprintf(copy, sizeof copy, "%s", text);
  for (char *op = strtok(copy, ";"); op != NULL; op = strtok(NULL, ";")) {
    char word[16];
    unsigned long long a = 0, b = 0, c = 0;
    char name[STRATAKV_MAX_TABLE_NAME + 1] = "";
    int skip = 0;
    sscanf(op, " %15s%n", word, &skip);
    sscanf(op + skip, "%llu %llu %llu", &a, &b, &c);
    sscanf(op + skip, "%*u %64s", name);
    if (strcmp(word, "next") == 0) skv_edit_next(edit, a);
    if (strcmp(word, "wal") == 0) skv_edit_wal(edit, a, b, c);
    if (strcmp(word, "end") == 0) skv_edit_end(edit, a, b);
    if (strcmp(word, "flushed") == 0) skv_edit_flushed(edit, a);
    if (strcmp(word, "forget") == 0) skv_edit_forget(edit, a);
    if (strcmp(word, "clean") == 0) skv_edit_clean(edit, a);
    if (strcmp(word, "remove") == 0) skv_edit_remove(edit, a);
    if (strcmp(word, "trim") == 0) skv_edit_trim(edit, a, fixture_key(name));
    if (strcmp(word, "seg") == 0) fixture_edit_seg(edit, op + skip);
    if (strcmp(word, "table") == 0) {
      stratakv_table_info table = {.id = (uint32_t)a, .key_type = 1};
      snprintf(table.name, sizeof table.name, "%s", name);
      skv_edit_table(edit, &table);
    }
  }
}

#define EDIT_BASE                                                              \
  "next 50; table 3 kv; wal 10 1000 4096; end 10 2000; wal 11 2000 4096;"      \
  "seg 0/500 5 a f 1; seg 0/100 4 a c 1; seg 0/100 3 d h 1;"                   \
  "seg 1 2 a g 1; seg 1 1 m p 1"
#define EDIT_SEGS " 0/500: 5[a-f] 0/100: 4[a-c] 3[d-h] 1: 2[a-g] 1[m-p]"
#define EDIT_WALS "wal 10@1000+4096-2000 wal 11@2000+4096-0"

static skv_version *edit_base(void) {
  skv_version *empty = NULL;
  skv_version *base = NULL;
  skv_buf edit = {0};
  OK(skv_version_new(NULL, fixture_id, &fixture_err, &empty));
  edit_text(&edit, EDIT_BASE);
  OK(apply(empty, &edit, &base));
  skv_version_unref(empty);
  skv_buf_clear(&edit);
  return base;
}

/* What an edit makes of the base; NULL: CORRUPT. */
static void edit_case(const char *text, const char *want) {
  skv_version *base = edit_base();
  skv_version *version = NULL;
  skv_buf edit = {0};
  edit_text(&edit, text);
  check_where = text;
  if (want == NULL) {
    FAILS(STRATAKV_CORRUPT, apply(base, &edit, &version));
    CHECK(version == NULL);
  } else if (OK(apply(base, &edit, &version))) {
    SAME(fixture_dump(version), want);
    CHECK(version->pos == 7);
  }
  SAME(fixture_dump(base), "next 50 table 3:1:kv " EDIT_WALS EDIT_SEGS);
  check_where = "";
  skv_buf_clear(&edit);
  skv_version_unref(version);
  skv_version_unref(base);
}

static void test_edits(void) {
#define KV "table 3:1:kv "
  edit_case("next 60", "next 60 " KV EDIT_WALS EDIT_SEGS);
  edit_case("next 49", NULL);
  edit_case("clean 77", "next 50 " KV EDIT_WALS " clean 77" EDIT_SEGS);
  edit_case("clean 0", NULL);
  edit_case("table 2 b", "next 50 table 2:1:b " KV EDIT_WALS EDIT_SEGS);
  edit_case("table 9 b", "next 50 " KV "table 9:1:b " EDIT_WALS EDIT_SEGS);
  edit_case("table 3 b", NULL);
  edit_case("table 4 kv", NULL);
  edit_case("table 0 b", NULL);
  edit_case("table 65536 b", NULL);
  edit_case("table 4 1b", NULL);
  edit_case("table 4 b-c", NULL);
  edit_case("table 4", NULL);
  /* Logs. */
  edit_case("end 11 3000; wal 12 3000 64",
            "next 50 " KV "wal 10@1000+4096-2000 wal 11@2000+4096-3000 "
            "wal 12@3000+64-0" EDIT_SEGS);
  edit_case("wal 12 3000 64", NULL);
  edit_case("end 11 3000; wal 12 2999 64", NULL);
  edit_case("end 11 3000; wal 12 3000 0", NULL);
  edit_case("end 11 3000; wal 11 3000 64", NULL);
  edit_case("end 11 3000; wal 9 3000 64", NULL);
  edit_case("end 11 3000; wal 50 3000 64", NULL);
  edit_case("end 11 1999", NULL);
  edit_case("end 11 7000", NULL);
  edit_case("end 12 3000", NULL);
  edit_case("end 10 2001", NULL);
  edit_case("end 10 2000", "next 50 " KV EDIT_WALS EDIT_SEGS);
  edit_case("end 11 3000; wal 12 3000 18446744073709551000", NULL);
  edit_case("flushed 10", "next 50 " KV "wal 11@2000+4096-0 retired 10 "
                          "flushed 10" EDIT_SEGS);
  edit_case("flushed 10; forget 10",
            "next 50 " KV "wal 11@2000+4096-0 flushed 10" EDIT_SEGS);
  edit_case("flushed 11", NULL);
  edit_case("flushed 10; flushed 11", NULL);
  edit_case("flushed 10; flushed 10", NULL);
  edit_case("forget 10", NULL);
  edit_case("flushed 10; seg 1 10 x y 1", NULL);
  /* Segments. */
  edit_case("remove 5",
            "next 50 " KV EDIT_WALS " 0/100: 4[a-c] 3[d-h] 1: 2[a-g] 1[m-p]");
  edit_case("remove 6", NULL);
  edit_case("remove 5; remove 5", NULL);
  edit_case("trim 2 c", "next 50 " KV EDIT_WALS
                        " 0/500: 5[a-f] 0/100: 4[a-c] 3[d-h] 1: 2[c-g] 1[m-p]");
  edit_case("trim 2 c; trim 2 e; seg 1 9 a d 1",
            "next 50 " KV EDIT_WALS " 0/500: 5[a-f] 0/100: 4[a-c] 3[d-h] "
            "1: 9[a-d] 2[e-g] 1[m-p]");
  edit_case("trim 2 c; trim 2 c", NULL);
  edit_case("trim 2 a", NULL);
  edit_case("trim 2 gg", NULL);
  edit_case("trim 6 c", NULL);
  edit_case("remove 1; seg 2 1 m p 1 >n",
            "next 50 " KV EDIT_WALS " 0/500: 5[a-f] 0/100: 4[a-c] 3[d-h] "
            "1: 2[a-g] 2: 1[n-p]");
  edit_case("seg 1 5 x y 1", NULL);
  edit_case("seg 1 50 x y 1", NULL);
  edit_case("seg 1 10 x y 1", NULL); /* a log's number */
  edit_case("seg 1 0 x y 1", NULL);
  edit_case("seg 1 9 y x 1", NULL);
  edit_case("seg 1 9 x y 0", NULL);
  edit_case("seg 1 9 x y 1 t101", NULL);
  edit_case("seg 1 9 x y 1 >z", NULL);
  edit_case("seg 1 9 x y 1 >w", NULL);
  edit_case("seg 8 9 x y 1", NULL);
  edit_case("seg 1/3 9 x y 1", NULL);
  edit_case("seg 1 9 g i 1", NULL); /* overlaps by one key */
  edit_case("seg 1 9 h i 1; seg 1 8 i j 1", NULL);
  edit_case("seg 0/100 9 c cc 1", NULL);
  edit_case("seg 0/300 9 a z 1",
            "next 50 " KV EDIT_WALS " 0/500: 5[a-f] 0/300: 9[a-z] 0/100: "
            "4[a-c] 3[d-h] 1: 2[a-g] 1[m-p]");
  edit_case("seg 0/50 9 a z 1; remove 5; remove 4; remove 3",
            "next 50 " KV EDIT_WALS " 0/50: 9[a-z] 1: 2[a-g] 1[m-p]");
#undef KV
}

/* A version's first edit may begin with a log that is flushed already. */
static void test_edit_first(void) {
  static const struct {
    const char *edit, *want;
  } cases[] = {
      {"next 50; flushed 5", "next 50 retired 5 flushed 5"},
      {"next 50; flushed 5; flushed 7",
       "next 50 retired 5 retired 7 flushed 7"},
      {"next 50; flushed 5; flushed 5", NULL},
      {"next 50; flushed 5; flushed 4", NULL},
      {"next 50; wal 10 1000 4096; flushed 5", NULL},
      {"next 5; flushed 5", NULL},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    skv_version *empty = NULL, *version = NULL;
    skv_buf edit = {0};
    check_where = cases[i].edit;
    edit_text(&edit, cases[i].edit);
    OK(skv_version_new(NULL, fixture_id, &fixture_err, &empty));
    if (cases[i].want == NULL)
      FAILS(STRATAKV_CORRUPT, apply(empty, &edit, &version));
    else if (OK(apply(empty, &edit, &version)))
      SAME(fixture_dump(version), cases[i].want);
    skv_version_unref(version);
    skv_version_unref(empty);
    skv_buf_clear(&edit);
  }
  check_where = "";
}

/* Names and keys of one byte more than there may be. */
static void test_edit_sizes(void) {
  skv_version *base = edit_base();
  static uint8_t bytes[SKV_TABLE_PREFIX + STRATAKV_MAX_KEY + 1];
  memset(bytes, 'z', sizeof bytes);
  for (size_t more = 0; more < 2; more++) {
    skv_version *version = NULL;
    skv_buf edit = {0};
    int want = more ? STRATAKV_CORRUPT : STRATAKV_OK;
    skv_buf_u8(&edit, SKV_EDIT_TABLE);
    skv_buf_varint(&edit, 4);
    skv_buf_varint(&edit, STRATAKV_KEY_TEXT);
    skv_buf_slice(&edit, skv_slice_of(bytes, STRATAKV_MAX_TABLE_NAME + more));
    FAILS(want, apply(base, &edit, &version));
    skv_version_unref(version);
    edit.size = 0;
    skv_seg_meta meta = fixture_meta("x", "y");
    meta.max_key = skv_slice_of(bytes, sizeof bytes - 1 + more);
    skv_edit_seg(&edit, 9, 1, 0, 0, &meta, skv_slice_of(NULL, 0));
    FAILS(want, apply(base, &edit, &version));
    skv_version_unref(version);
    skv_buf_clear(&edit);
  }
  skv_version_unref(base);
}

/* A segment's description with one field that cannot be. */
static void test_edit_meta(void) {
  skv_version *base = edit_base();
  for (int wrong = 0; wrong < 8; wrong++) {
    skv_version *version = NULL;
    skv_buf edit = {0};
    skv_seg_meta meta = fixture_meta("x", "y");
    skv_slice trim = {NULL, 0};
    meta.max_key = skv_slice_of("\2\2", 2);
    switch (wrong) {
    case 1: meta.size = 0; break;
    case 2: meta.entries = meta.tombstones = 0; break;
    case 3: meta.tombstones = meta.entries + 1; break;
    case 4: meta.min_lsn = meta.max_lsn + 1; break;
    case 5: /* keys without a table's number */
      trim = meta.min_key;
      meta.min_key.size = 1;
      break;
    case 6: trim = skv_slice_of("\1", 1); break;
    case 7: meta.max_key.size = 1; break;
    }
    skv_edit_seg(&edit, 9, 1, 0, 0, &meta, trim);
    FAILS(wrong ? STRATAKV_CORRUPT : STRATAKV_OK, apply(base, &edit, &version));
    skv_version_unref(version);
    skv_buf_clear(&edit);
  }
  skv_version_unref(base);
}

/* INV-5: an LSN of an older run is below the newer run's id. */
static void test_edit_lsn(void) {
  skv_version *base = edit_base();
  skv_version *version = NULL;
  skv_buf edit = {0};
  skv_seg_meta meta = fixture_meta("x", "y");
  meta.max_lsn = 500;
  skv_edit_seg(&edit, 9, 0, 100, 0, &meta, skv_slice_of(NULL, 0));
  FAILS(STRATAKV_CORRUPT, apply(base, &edit, &version));
  edit.size = 0;
  meta.max_lsn = 499;
  skv_edit_seg(&edit, 9, 0, 100, 0, &meta, skv_slice_of(NULL, 0));
  OK(apply(base, &edit, &version));
  CHECK(version != NULL && version->runs[1].max_lsn == 499);
  skv_version_unref(version);
  edit.size = 0;
  meta.max_lsn = 1;
  skv_edit_seg(&edit, 9, 0, 100, 600, &meta, skv_slice_of(NULL, 0));
  FAILS(STRATAKV_CORRUPT, apply(base, &edit, &version));
  skv_buf_clear(&edit);
  skv_version_unref(base);
}

/* Cut anywhere and changed anywhere: refused, or a version. */
static void test_edit_bytes(void) {
  skv_version *base = edit_base();
  skv_version *version = NULL;
  skv_buf edit = {0};
  edit_text(&edit, "next 60; table 4 name; end 11 3000; wal 12 3000 64;"
                   "flushed 10; forget 10; seg 1 51 h i 1; trim 2 c;"
                   "remove 4; clean 9");
  unsigned refused = 0, taken = 0;
  for (size_t i = 0; i < edit.size * 256; i++) {
    skv_slice bytes = {edit.data, edit.size};
    uint8_t was = edit.data[i / 256];
    edit.data[i / 256] = (uint8_t)i;
    int rc =
        skv_version_apply(NULL, base, bytes, 7, false, &fixture_err, &version);
    edit.data[i / 256] = was;
    refused += rc == STRATAKV_CORRUPT || rc == STRATAKV_NOTADB;
    taken += rc == STRATAKV_OK;
    skv_version_unref(version);
  }
  CHECK(refused + taken == edit.size * 256 && refused > taken);
  for (size_t size = 0; size < edit.size; size++) {
    skv_slice bytes = {skv_malloc(size), size};
    memcpy((uint8_t *)(uintptr_t)bytes.data, edit.data, size);
    int rc =
        skv_version_apply(NULL, base, bytes, 7, false, &fixture_err, &version);
    CHECK(rc == STRATAKV_OK || rc == STRATAKV_CORRUPT);
    skv_version_unref(version);
    skv_free((uint8_t *)(uintptr_t)bytes.data);
  }
  edit.size = 0;
  skv_buf_u8(&edit, 11);
  FAILS(STRATAKV_NOTADB, apply(base, &edit, &version));
  skv_buf_clear(&edit);
  skv_version_unref(base);
}

/* ---- Encoding, sharing, memory ------------------------------------------- */

static void encode_case(const skv_version *version) {
  skv_version *empty = NULL, *again = NULL;
  skv_buf edit = {0};
  char text[4096];
  snprintf(text, sizeof text, "%s", fixture_dump(version));
  OK(skv_version_new(NULL, fixture_id, &fixture_err, &empty));
  skv_version_encode(version, &edit);
  if (OK(apply(empty, &edit, &again))) SAME(fixture_dump(again), text);
  skv_version_unref(again);
  skv_version_unref(empty);
  skv_buf_clear(&edit);
}

static void test_encode(void) {
  static const char *const edits[] = {
      "next 50", "flushed 10", "flushed 10; forget 10",
      "flushed 10; end 11 3000; flushed 11; forget 10; clean 5",
      "flushed 10; end 11 3000; flushed 11; forget 11; trim 2 c"};
  for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
    skv_version *base = edit_base();
    skv_version *version = NULL;
    skv_buf edit = {0};
    check_where = edits[i];
    edit_text(&edit, edits[i]);
    if (OK(apply(base, &edit, &version))) encode_case(version);
    skv_version_unref(version);
    skv_version_unref(base);
    skv_buf_clear(&edit);
  }
  check_where = "";
}

static void test_sharing(void) {
  skv_version *base = edit_base();
  skv_version *version = NULL;
  skv_buf edit = {0};
  edit_text(&edit, "trim 2 c");
  OK(apply(base, &edit, &version));
  CHECK(version->tables == base->tables);
  CHECK(version->levels[1].segs[1] == base->levels[1].segs[1]);
  CHECK(version->levels[1].segs[0] != base->levels[1].segs[0]);
  CHECK(skv_version_level_bytes(version, 0) == 3 << 20);
  CHECK(skv_version_level_bytes(version, 1) == 2 << 20);
  CHECK(skv_version_table(version, "kv") == &version->tables[0]);
  CHECK(skv_version_table(version, "kw") == NULL);
  skv_version *same = skv_version_ref(version);
  skv_version_unref(base);
  skv_version_unref(version);
  SAME(fixture_dump(same),
       "next 50 table 3:1:kv " EDIT_WALS
       " 0/500: 5[a-f] 0/100: 4[a-c] 3[d-h] 1: 2[c-g] 1[m-p]");
  skv_version_unref(same);
  skv_version_unref(NULL);
  skv_buf_clear(&edit);
}

typedef struct countdown {
  unsigned left;
  bool fired;
} countdown;

static int countdown_hook(void *arg, size_t size) {
  countdown *c = arg;
  (void)size;
  if (c->left == 0 || --c->left > 0) return 0;
  c->fired = true;
  return 1;
}

static void test_memory(void) {
  skv_version *base = edit_base();
  skv_buf edit = {0};
  char text[512] = "table 4 b; flushed 10; trim 2 c; seg 1 9 w wa 1";
  for (int i = 0; i < 9; i++) /* more than the list has room for */
    snprintf(text + strlen(text), 40, "; seg 1 %d x%d x%d 1", 20 + i, i, i);
  edit_text(&edit, text);
  size_t before = skv_alloc_count();
  unsigned n = 0;
  countdown c = {0, true};
  while (c.fired && n < 1000) {
    skv_version *version = NULL;
    c = (countdown){++n, false};
    skv_alloc_set_hook(countdown_hook, &c);
    int rc = apply(base, &edit, &version);
    skv_alloc_set_hook(NULL, NULL);
    CHECK(rc == (c.fired ? STRATAKV_NOMEM : STRATAKV_OK));
    CHECK((version == NULL) == c.fired);
    skv_version_unref(version);
    CHECK(skv_alloc_count() == before);
  }
  CHECK(n > 5 && n < 1000);
  skv_buf_clear(&edit);
  skv_version_unref(base);
}

/* ---- Manifests ----------------------------------------------------------- */

#define FILE_NUMBER 4

/* A manifest of three edits and what it says after each. */
typedef struct manifest_case {
  skv_tree tree;
  skv_buf bytes;
  skv_manifest_end ends[4]; /* after i edits, from 1 */
  char texts[4][512];
} manifest_case;

static void manifest_add(manifest_case *m, unsigned i, const char *text) {
  skv_buf edit = {0};
  edit_text(&edit, text);
  if (i == 1) {
    skv_manifest_encode(fixture_id, FILE_NUMBER, skv_buf_bytes(&edit),
                        &m->bytes, &m->ends[1]);
  } else {
    m->ends[i] = m->ends[i - 1];
    skv_manifest_edit(fixture_id, skv_buf_bytes(&edit), &m->bytes, &m->ends[i]);
  }
  CHECK(m->bytes.size == skv_head_offset(m->ends[i].pos));
  skv_buf_clear(&edit);
}

static void manifest_make(manifest_case *m, skv_store *store) {
  m->tree.store = store;
  manifest_add(m, 1, "next 9; table 1 kv; wal 2 100 4096");
  manifest_add(m, 2, "next 12; table 2 users");
  manifest_add(m, 3, "end 2 200; wal 10 200 4096; clean 200");
  snprintf(m->texts[1], 512, "next 9 table 1:1:kv wal 2@100+4096-0");
  snprintf(m->texts[2], 512,
           "next 12 table 1:1:kv table 2:1:users wal 2@100+4096-0");
  snprintf(m->texts[3], 512,
           "next 12 table 1:1:kv table 2:1:users wal 2@100+4096-200 "
           "wal 10@200+4096-0 clean 200");
}

/* Put these bytes into the manifest and read it. */
static int manifest_try(manifest_case *m, const void *bytes, size_t size,
                        skv_head_pos published, skv_manifest_end *end,
                        skv_version **version) {
  skv_store *store = m->tree.store;
  OK(skv_head_replace(store, fixture_id, FILE_NUMBER, bytes, size,
                      &fixture_err));
  return skv_manifest_read(&m->tree, fixture_id, FILE_NUMBER, NULL, NULL,
                           published, &fixture_err, end, version);
}

/* The result must be what was there after `edits` edits. */
static void manifest_is(const manifest_case *m, unsigned edits,
                        const skv_manifest_end *end,
                        const skv_version *version) {
  SAME(fixture_dump(version), m->texts[edits]);
  CHECK(end->pos == m->ends[edits].pos);
  CHECK(end->chain == m->ends[edits].chain);
  CHECK(version->pos == end->pos);
}

static void manifest_expect(manifest_case *m, const void *bytes, size_t size,
                            skv_head_pos published, int want, unsigned edits) {
  skv_manifest_end end = {0};
  skv_version *version = NULL;
  int rc = manifest_try(m, bytes, size, published, &end, &version);
  if (fixture_expect(rc, want, __FILE__, __LINE__, "manifest_expect") &&
      rc == STRATAKV_OK) {
    manifest_is(m, edits, &end, version);
  } else if (want == STRATAKV_CORRUPT) {
    CHECK(strstr(fixture_err.message, "000004.manifest at offset") != NULL);
  }
  skv_version_unref(version);
}

/* How many edits lie wholly before byte `at`. */
static unsigned manifest_edits_before(const manifest_case *m, size_t at) {
  unsigned n = 0;
  while (n < 3 && skv_head_offset(m->ends[n + 1].pos) <= at) n++;
  return n;
}

static bool manifest_is_padding(const manifest_case *m, size_t at) {
  unsigned edit = manifest_edits_before(m, at);
  if (at < SKV_MANIFEST_HEADER || edit == 3) return false;
  size_t start =
      edit == 0 ? SKV_MANIFEST_HEADER : skv_head_offset(m->ends[edit].pos);
  return at >= start + SKV_EDIT_HEADER + skv_get32(m->bytes.data + start + 8);
}

static void test_manifest_cuts(manifest_case *m) {
  const uint8_t *bytes = m->bytes.data;
  for (size_t size = 0; size <= m->bytes.size; size++) {
    unsigned edits = manifest_edits_before(m, size);
    /* Padding is no part of an edit. */
    if (size < m->bytes.size && manifest_is_padding(m, size)) edits++;
    int want = edits == 0 ? STRATAKV_CORRUPT : STRATAKV_OK;
    manifest_expect(m, bytes, size, 0, want, edits);
    manifest_expect(m, bytes, size, m->ends[2].pos,
                    edits < 2 ? STRATAKV_CORRUPT : STRATAKV_OK, edits);
    manifest_expect(m, bytes, size, m->ends[3].pos,
                    edits < 3 ? STRATAKV_CORRUPT : STRATAKV_OK, edits);
  }
}

/* One byte flipped: without the shared page only the last edit may vanish. */
static void test_manifest_flips(manifest_case *m) {
  size_t size = m->bytes.size;
  uint8_t *bytes = m->bytes.data;
  for (size_t at = 0; at < size; at++) {
    unsigned edit = manifest_edits_before(m, at);
    bytes[at] ^= 0x40;
    if (manifest_is_padding(m, at)) {
      manifest_expect(m, bytes, size, m->ends[3].pos, STRATAKV_OK, 3);
    } else {
      manifest_expect(m, bytes, size, m->ends[3].pos, STRATAKV_CORRUPT, 0);
      manifest_expect(m, bytes, size, 0,
                      edit == 2 ? STRATAKV_OK : STRATAKV_CORRUPT, 2);
    }
    bytes[at] ^= 0x40;
  }
}

/* What an append that did not finish leaves: any bytes. */
static void test_manifest_torn(manifest_case *m) {
  skv_prng prng = {7};
  uint8_t bytes[4096];
  size_t two = skv_head_offset(m->ends[2].pos);
  for (int i = 0; i < 200; i++) {
    size_t more = skv_prng_below(&prng, 600);
    memcpy(bytes, m->bytes.data, m->bytes.size);
    if (i % 2 == 0) {
      skv_prng_fill(&prng, bytes + two, more);
    } else {
      memset(bytes + two, 0, more);
    }
    manifest_expect(m, bytes, two + more, m->ends[2].pos, STRATAKV_OK, 2);
    manifest_expect(m, bytes, two + more, 0, STRATAKV_OK, 2);
  }
}

/* Valid edits that cannot stand where they stand. */
static void test_manifest_misfits(manifest_case *m) {
  skv_buf bytes = {0}, edit = {0};
  size_t two = skv_head_offset(m->ends[2].pos);
  skv_manifest_end end = {m->ends[2].pos, m->ends[1].chain};
  skv_buf_append(&bytes, m->bytes.data, two);
  edit_text(&edit, "clean 1");
  skv_manifest_edit(fixture_id, skv_buf_bytes(&edit), &bytes, &end);
  manifest_expect(m, bytes.data, bytes.size, 0, STRATAKV_CORRUPT, 0);
  bytes.size = two;
  edit.size = 0;
  end = m->ends[2];
  edit_text(&edit, "remove 5");
  skv_manifest_edit(fixture_id, skv_buf_bytes(&edit), &bytes, &end);
  manifest_expect(m, bytes.data, bytes.size, 0, STRATAKV_CORRUPT, 0);
  bytes.size = two;
  edit.size = 0;
  end = m->ends[2];
  skv_buf_u8(&edit, 99);
  skv_manifest_edit(fixture_id, skv_buf_bytes(&edit), &bytes, &end);
  manifest_expect(m, bytes.data, bytes.size, 0, STRATAKV_NOTADB, 0);
  skv_buf_clear(&bytes);
  skv_buf_clear(&edit);
  uint8_t id[16] = "another store's";
  skv_version *version = NULL;
  manifest_expect(m, m->bytes.data, m->bytes.size, 0, STRATAKV_OK, 3);
  FAILS(STRATAKV_CORRUPT,
        skv_manifest_read(&m->tree, id, FILE_NUMBER, NULL, NULL, 0,
                          &fixture_err, &end, &version));
  CHECK(strstr(fixture_err.message, "another file's header") != NULL);
  FAILS(STRATAKV_NOTFOUND,
        skv_manifest_read(&m->tree, fixture_id, 77, NULL, NULL, 0, &fixture_err,
                          &end, &version));
}

/* A file's bytes that are other bytes each time they are read. */
static struct changing {
  int (*read)(skv_file *, uint64_t, void *, size_t, skv_err *, size_t *);
  const manifest_case *m;
  unsigned reads;
  unsigned mended; /* the read from which on it is whole; 0: never */
  unsigned fails;  /* the read that fails; 0: none */
  bool is_cut;     /* each read but the first ends early */
  bool is_steady;  /* the same bytes each time */
} changing;

static int changing_read(skv_file *file, uint64_t offset, void *to, size_t size,
                         skv_err *err, size_t *got) {
  struct changing *c = &changing;
  size_t two = skv_head_offset(c->m->ends[1].pos);
  int rc = c->read(file, offset, to, size, err, got);
  c->reads++;
  if (c->reads == c->fails) return SKV_ERROR(err, STRATAKV_IOERR, "read");
  if (c->mended != 0 && c->reads >= c->mended) return rc;
  ((uint8_t *)to)[two + 4] ^= (uint8_t)(c->is_steady ? 1 : 1 + c->reads % 2);
  if (c->is_cut && c->reads > 1) *got -= 8;
  return rc;
}

/* An edit before a valid one is being written while it is read, or damaged. */
static void test_manifest_race(manifest_case *m) {
  static const struct {
    struct changing how;
    int want;
    unsigned reads;
  } cases[] = {
      {{.mended = 2}, STRATAKV_OK, 2},
      {{.mended = 50}, STRATAKV_OK, 50},
      {{.is_steady = true}, STRATAKV_CORRUPT, 2},
      {{.is_cut = true}, STRATAKV_CORRUPT, 2},
      {{.fails = 2}, STRATAKV_IOERR, 2},
      {{.mended = 0}, STRATAKV_CORRUPT, 102},
  };
  skv_env *env = skv_store_env(m->tree.store), plain = *env;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    skv_manifest_end end = {0};
    skv_version *version = NULL;
    OK(skv_head_replace(m->tree.store, fixture_id, FILE_NUMBER, m->bytes.data,
                        m->bytes.size, &fixture_err));
    changing = cases[i].how;
    changing.read = plain.file_read;
    changing.m = m;
    env->file_read = changing_read;
    FAILS(cases[i].want,
          skv_manifest_read(&m->tree, fixture_id, FILE_NUMBER, NULL, NULL, 0,
                            &fixture_err, &end, &version));
    env->file_read = plain.file_read;
    CHECK(changing.reads == cases[i].reads);
    if (version != NULL) manifest_is(m, 3, &end, version);
    skv_version_unref(version);
  }
}

/* Padding is filled up as far as edits are valid, and memory suffices. */
static void test_manifest_pad(manifest_case *m) {
  size_t one = skv_head_offset(m->ends[1].pos), size = m->bytes.size;
  for (int is_damaged = 0; is_damaged < 2; is_damaged++) {
    skv_buf bytes = {0};
    skv_buf_append(&bytes, m->bytes.data, size);
    if (is_damaged) bytes.data[one] ^= 1;
    bytes.size = size - 1;
    skv_manifest_pad(&bytes, 0, size, fixture_id, FILE_NUMBER);
    CHECK(bytes.rc == STRATAKV_OK && bytes.size == size);
    CHECK((memcmp(bytes.data, m->bytes.data, size) == 0) == !is_damaged);
    skv_buf_clear(&bytes);
  }
  skv_buf bytes = {0};
  countdown c = {1, false};
  skv_alloc_set_hook(countdown_hook, &c);
  skv_manifest_pad(&bytes, one, size, fixture_id, FILE_NUMBER);
  skv_alloc_set_hook(NULL, NULL);
  CHECK(c.fired && bytes.rc == STRATAKV_NOMEM);
  skv_buf_clear(&bytes);
}

/* Another file's bytes under this name. */
static void test_manifest_renamed(manifest_case *m) {
  skv_manifest_end end;
  skv_version *version = NULL;
  OK(skv_head_replace(m->tree.store, fixture_id, 9, m->bytes.data,
                      m->bytes.size, &fixture_err));
  FAILS(STRATAKV_CORRUPT, skv_manifest_read(&m->tree, fixture_id, 9, NULL, NULL,
                                            0, &fixture_err, &end, &version));
  CHECK(strstr(fixture_err.message, "another file's header") != NULL);
}

/* An edit that is cut within its padding ends where memory ends, too: a buffer
 * has a power of two. */
static void test_manifest_edge(manifest_case *m) {
  unsigned tried = 0;
  for (int letters = 1; letters < 60; letters++) {
    char text[160];
    skv_buf edit = {0}, bytes = {0};
    skv_manifest_end end;
    skv_version *version = NULL;
    snprintf(text, sizeof text, "next 9; table 1 %.*s; wal 2 100 4096", letters,
             "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefgh");
    edit_text(&edit, text);
    skv_manifest_encode(fixture_id, FILE_NUMBER, skv_buf_bytes(&edit), &bytes,
                        &end);
    size_t used = SKV_MANIFEST_HEADER + SKV_EDIT_HEADER + edit.size;
    if (bytes.size == 128 && used < 128) {
      OK(manifest_try(m, bytes.data, used, 0, &end, &version));
      CHECK(skv_head_offset(end.pos) == 128);
      skv_version_unref(version);
      tried++;
    }
    skv_buf_clear(&edit);
    skv_buf_clear(&bytes);
  }
  CHECK(tried == 7);
}

/* Reading on from where one is. */
static void test_manifest_tail(manifest_case *m) {
  skv_manifest_end end = {0}, last = {0};
  skv_version *first = NULL, *second = NULL, *third = NULL;
  size_t one = skv_head_offset(m->ends[1].pos);
  skv_store *store = m->tree.store;
  OK(manifest_try(m, m->bytes.data, one, m->ends[1].pos, &end, &first));
  manifest_is(m, 1, &end, first);
  OK(skv_manifest_read(&m->tree, fixture_id, FILE_NUMBER, &end, first, 0,
                       &fixture_err, &last, &second));
  CHECK(second == first && last.pos == end.pos);
  skv_version_unref(second);
  FAILS(STRATAKV_CORRUPT,
        skv_manifest_read(&m->tree, fixture_id, FILE_NUMBER, &end, first,
                          m->ends[3].pos, &fixture_err, &last, &second));
  OK(skv_head_append(store, FILE_NUMBER, one, m->bytes.data + one,
                     m->bytes.size - one, &fixture_err));
  OK(skv_manifest_read(&m->tree, fixture_id, FILE_NUMBER, &end, first,
                       m->ends[3].pos, &fixture_err, &last, &third));
  manifest_is(m, 3, &last, third);
  manifest_is(m, 1, &end, first);
  /* Who is further than what it is told to follow reads nothing. */
  for (unsigned i = 1; i <= 2; i++) {
    OK(skv_manifest_follow(&m->tree, fixture_id, FILE_NUMBER, &m->ends[2],
                           third, m->ends[i].pos, &fixture_err, &last,
                           &second));
    CHECK(second == third && last.pos == m->ends[2].pos);
    skv_version_unref(second);
  }
  skv_version_unref(first);
  skv_version_unref(third);
}

/* ---- Files of a version -------------------------------------------------- */

static void put_segment(skv_store *store, uint64_t number, size_t size) {
  skv_name tmp = {.kind = SKV_NAME_TMP, .slot = 1, .number = number};
  uint8_t bytes[4096] = {0};
  skv_out *out = NULL;
  if (!OK(skv_out_create(store, &tmp, &fixture_err, &out))) return;
  OK(skv_out_append(out, bytes, size, &fixture_err));
  OK(skv_out_sync(out, &fixture_err));
  skv_out_close(out);
  OK(skv_seg_name(store, &tmp, number, &fixture_err));
}

static int files_read(manifest_case *m, const skv_version *base,
                      skv_version **out) {
  skv_manifest_end end;
  return skv_manifest_read(&m->tree, fixture_id, FILE_NUMBER, NULL, base, 0,
                           &fixture_err, &end, out);
}

/* P2: open when named, kept when unlinked, shared with an older version. */
static void test_files(manifest_case *m) {
  skv_store *store = m->tree.store;
  skv_version *one = NULL, *two = NULL;
  skv_buf bytes = {0}, edit = {0};
  skv_manifest_end end;
  skv_seg_meta meta = fixture_meta("a", "c");
  skv_edit_next(&edit, 9);
  skv_edit_seg(&edit, 5, 1, 0, 0, &meta, skv_slice_of(NULL, 0));
  skv_manifest_encode(fixture_id, FILE_NUMBER, skv_buf_bytes(&edit), &bytes,
                      &end);
  edit.size = 0;
  skv_edit_remove(&edit, 5);
  skv_edit_seg(&edit, 5, 2, 0, 0, &meta, fixture_key("b"));
  skv_manifest_edit(fixture_id, skv_buf_bytes(&edit), &bytes, &end);
  OK(skv_head_replace(store, fixture_id, FILE_NUMBER, bytes.data, bytes.size,
                      &fixture_err));
  FAILS(STRATAKV_NOTFOUND, files_read(m, NULL, &one));
  put_segment(store, 5, 4000);
  FAILS(STRATAKV_CORRUPT, files_read(m, NULL, &one));
  skv_name name = {.kind = SKV_NAME_SEG, .number = 5};
  OK(skv_store_remove(store, &name, &fixture_err));
  put_segment(store, 5, 4096);
  if (OK(files_read(m, NULL, &one))) {
    SAME(fixture_dump(one), "next 9 2: 5[b-c]");
    OK(skv_store_remove(store, &name, &fixture_err));
    FAILS(STRATAKV_NOTFOUND, files_read(m, NULL, &two));
    if (OK(files_read(m, one, &two))) {
      CHECK(two->levels[2].segs[0] != one->levels[2].segs[0]);
      CHECK(two->levels[2].segs[0]->file == one->levels[2].segs[0]->file);
    }
    /* A number that comes back must be the same file. */
    edit.size = 0;
    meta.size = 4095;
    skv_edit_remove(&edit, 5);
    skv_edit_seg(&edit, 5, 3, 0, 0, &meta, skv_slice_of(NULL, 0));
    skv_version *three = NULL;
    FAILS(STRATAKV_CORRUPT,
          skv_version_apply(&m->tree, one, skv_buf_bytes(&edit), 7, true,
                            &fixture_err, &three));
    /* 4096 zeros are no segment: found on first use, as often as asked. */
    skv_seg *seg;
    put_segment(store, 5, 4096);
    int rc =
        skv_segref_get(&m->tree, one->levels[2].segs[0], &fixture_err, &seg);
    CHECK(rc == STRATAKV_CORRUPT || rc == STRATAKV_NOTADB);
    CHECK(skv_segref_get(&m->tree, one->levels[2].segs[0], &fixture_err,
                         &seg) == rc);
  }
  skv_version_unref(one);
  skv_version_unref(two);
  skv_buf_clear(&bytes);
  skv_buf_clear(&edit);
}

static void test_manifest(void) {
  skv_env *env = skv_env_mem_new();
  skv_store *store = NULL;
  manifest_case m = {0};
  if (CHECK(env != NULL) &&
      OK(skv_store_open(env, NULL, "/tree", SKV_DIR_CREATE, &fixture_err,
                        &store))) {
    manifest_make(&m, store);
    test_manifest_cuts(&m);
    test_manifest_flips(&m);
    test_manifest_torn(&m);
    test_manifest_misfits(&m);
    test_manifest_race(&m);
    test_manifest_pad(&m);
    test_manifest_renamed(&m);
    test_manifest_edge(&m);
    test_manifest_tail(&m);
    test_files(&m);
  }
  skv_buf_clear(&m.bytes);
  skv_store_close(store);
  skv_env_mem_free(env);
}

int main(void) {
  size_t before = skv_alloc_count();
  test_edits();
  test_edit_first();
  test_edit_sizes();
  test_edit_meta();
  test_edit_lsn();
  test_edit_bytes();
  test_encode();
  test_sharing();
  test_memory();
  test_manifest();
  CHECK(skv_alloc_count() == before);
  return check_end();
}
