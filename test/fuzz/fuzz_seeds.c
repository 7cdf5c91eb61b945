/*
 * Makes the first inputs of every target from real stores:
 *
 *   fuzz_seeds DIRECTORY
 *
 * writes DIRECTORY/TARGET/seed-NAME. What a target found later stands beside
 * them under other names and is not touched.
 */
#include <sys/stat.h>

#include "engine/seg/seg_block.h"
#include "engine/seg/seg_filter.h"
#include "engine/seg/seg_footer.h"
#include "engine/seg/seg_frame.h"
#include "engine/util/hash.h"
#include "test/c/db_fixture.h"
#include "test/fuzz/fuzz_clock.h"
#include "test/fuzz/fuzz_image.h"
#include "test/fuzz/fuzz_repair_manifest.h"

static const char *root;

static void put_seed(const char *target, const char *name, const void *bytes,
                     size_t size) {
  char path[500];
  snprintf(path, sizeof path, "%s/%s", root, target);
  mkdir(path, 0777);
  snprintf(path, sizeof path, "%s/%s/seed-%s", root, target, name);
  FILE *f = fopen(path, "wb");
  if (f == NULL || fwrite(bytes, 1, size, f) != size) abort();
  fclose(f);
}

static void put_text(const char *target, const char *name, const char *text) {
  put_seed(target, name, text, strlen(text));
}

/* ---- A small store of every kind of file ------------------------------- */

static stratakv_store *seed_open(skv_env *env, int compression) {
  stratakv_options o = fixture_options();
  stratakv_store *store = NULL;
  o.compression = compression;
  OK(skv_open_in(env, FIXTURE_PATH, &o, &fixture_err, &store));
  store->db->block_size = 256;
  return store;
}

static void seed_txn(stratakv_store *store, uint32_t table, bool commits) {
  stratakv_txn *txn = NULL;
  OK(stratakv_begin(store, &fixture_err, &txn));
  for (uint32_t i = 0; i < 3; i++) OK(fixture_txn_put(txn, table, i, 90 + i));
  OK(stratakv_prepare(txn, &fixture_err));
  if (commits)
    OK(stratakv_commit(txn, &fixture_err, NULL));
  else
    stratakv_rollback(txn);
}

static fixture_image seed_image(bool is_clean) {
  stratakv_table_info table;
  skv_env *env = fixture_world(&(fixture_image){0});
  fuzz_env_clock(env);
  stratakv_store *store = NULL;
  for (int compression = 0; compression < 3; compression++) {
    store = seed_open(env, compression);
    OK(stratakv_table(store, "kv", STRATAKV_KEY_TEXT, 1, &fixture_err, &table));
    for (uint32_t i = 0; i < 24; i++)
      OK(fixture_put(store, table.id, (uint32_t)compression * 12 + i,
                     i % 7 == 6 ? 0 : 100 * (uint32_t)compression + i + 1,
                     NULL));
    OK(stratakv_flush(store, &fixture_err));
    if (compression == 0) OK(stratakv_compact(store, NULL, NULL, &fixture_err));
    if (compression < 2) OK(stratakv_close(store, &fixture_err));
  }
  seed_txn(store, table.id, true);
  skv_err err;
  OK(skv_lead_begin(store->db, 1000, &err));
  OK(skv_write_acquire(store->db, UINT64_MAX, 0, &err));
  OK(skv_rotate(store->db, 0, NULL, NULL, &err));
  skv_lead_end(store->db);
  for (uint32_t i = 0; i < 5; i++)
    OK(fixture_put(store, table.id, i * 9, i == 3 ? 0 : 500 + i, NULL));
  seed_txn(store, table.id, false);
  OK(fixture_put(store, table.id, 7, 600, NULL));
  if (is_clean) OK(stratakv_close(store, &fixture_err));
  fixture_image image = fixture_take(env);
  if (!is_clean) stratakv_close(store, NULL);
  skv_env_mem_free(env);
  return image;
}

/* ---- From its files ---------------------------------------------------- */

static void seed_blocks(const fixture_file *file) {
  static uint8_t input[70000] = {10,  'k', 'e', 'y', ':', '0',
                                 '0', '0', '0', '0', '7'};
  for (size_t at = 0, n = 0; n < 3; n++) {
    uint32_t stored = skv_frame_stored(file->bytes + at);
    if (file->bytes[at + 13] != SKV_FRAME_DATA) return;
    if (file->bytes[at + 12] == 0 && stored < sizeof input - 11) {
      char name[80];
      input[1] = 0; /* internal: table 1 */
      snprintf(name, sizeof name, "%.40s-%u", file->name, (unsigned)n);
      memcpy(input + 11, file->bytes + at + 16, stored);
      put_seed("block", name, input, 11 + stored);
    }
    at += (size_t)skv_frame_size(stored);
  }
}

static void seed_filter(const fixture_file *file) {
  uint8_t input[5000] = {128, 0, 2};
  const uint8_t *footer = file->bytes + file->size - SKV_FOOTER_SIZE;
  uint64_t at = skv_get64(footer + 32);
  if (at == 0) return;
  uint32_t stored = skv_frame_stored(file->bytes + at);
  if (stored > sizeof input - 19) return;
  skv_put64(input + 3, skv_hash(skv_slice_of("\0\1key:000007", 12)));
  memcpy(input + 19, file->bytes + at + 16, stored);
  put_seed("filter", file->name, input, 19 + stored);
  memset(input, 10, 60);
  skv_prng rng = {1};
  skv_prng_fill(&rng, input + 2, 400);
  put_seed("filter", "members", input, 402);
}

static void seed_manifest(fixture_file *file, const char *name) {
  skv_prng rng = {0};
  static const uint8_t id[16] = "fuzz store id..";
  for (int i = 0; i < 3; i++) { /* what one pass leaves wrong, another mends */
    rng.state = (uint64_t)i;
    fuzz_repair_manifest(file->bytes, file->size, id, 1, &rng);
  }
  put_seed("manifest", name, file->bytes, file->size);
}

static void seed_files(fixture_image *image, const char *name) {
  static uint8_t whole[FUZZ_MAX_INPUT];
  size_t size = fuzz_image_write(image, whole, sizeof whole);
  if (size == 0) abort();
  put_seed("store", name, whole, size);
  for (size_t i = 0; i < image->count; i++) {
    fixture_file *file = &image->files[i];
    char text[100];
    snprintf(text, sizeof text, "%s-%.40s", name, file->name);
    switch (skv_name_parse(file->name).kind) {
    case SKV_NAME_WAL:
      put_seed("wal", text, file->bytes, fuzz_image_stored(file) / 8 * 8 + 64);
      break;
    case SKV_NAME_SEG:
      put_seed("segment", text, file->bytes, file->size);
      seed_blocks(file);
      seed_filter(file);
      break;
    case SKV_NAME_MANIFEST: seed_manifest(file, text); break;
    default: break;
    }
  }
}

/* An edit of every kind, whose segments are nowhere. */
static void seed_edits(void) {
  static const uint8_t id[16] = "fuzz store id..";
  skv_buf edit = {0}, file = {0};
  skv_manifest_end end;
  stratakv_table_info table = {.id = 1, .key_type = 1, .name = "kv"};
  skv_seg_meta meta = {0x5eed5eed5eed5eed, 4096, 10, 1, 100, 5, 9, {0}, {0}};
  meta.min_key = skv_slice_of("\0\1a", 3);
  meta.max_key = skv_slice_of("\0\1z", 3);
  skv_edit_next(&edit, 9);
  skv_edit_table(&edit, &table);
  skv_edit_wal(&edit, 2, 4096, 65536);
  skv_manifest_encode(id, 1, skv_buf_bytes(&edit), &file, &end);
  edit.size = 0;
  skv_edit_end(&edit, 2, 8192);
  skv_edit_wal(&edit, 3, 69632, 65536);
  skv_manifest_edit(id, skv_buf_bytes(&edit), &file, &end);
  edit.size = 0;
  skv_edit_flushed(&edit, 2);
  skv_edit_seg(&edit, 4, 0, 4096, 0, &meta, skv_slice_of(NULL, 0));
  skv_edit_seg(&edit, 5, 1, 0, 0, &meta, skv_slice_of(NULL, 0));
  skv_manifest_edit(id, skv_buf_bytes(&edit), &file, &end);
  edit.size = 0;
  skv_edit_trim(&edit, 5, skv_slice_of("\0\1m", 3));
  skv_edit_remove(&edit, 4);
  skv_edit_forget(&edit, 2);
  skv_edit_clean(&edit, 70000);
  skv_manifest_edit(id, skv_buf_bytes(&edit), &file, &end);
  put_seed("manifest", "edits", file.data, file.size);
  skv_buf_clear(&edit);
  skv_buf_clear(&file);
}

static void seed_batches(void) {
  skv_buf batch = {0};
  static uint8_t value[300];
  for (uint32_t i = 0; i < 12; i++) {
    skv_batch_append(&batch, i % 5 == 4 ? SKV_KIND_DELETE : SKV_KIND_PUT,
                     1 + i % 2, skv_slice_of("key-and-more", i % 7 + 1),
                     skv_slice_of(value, i % 5 == 4 ? 0 : i * 20));
  }
  put_seed("batch", "twelve", batch.data, batch.size);
  put_seed("batch", "one", batch.data, skv_entry_size(0, 3, 0));
  skv_buf_clear(&batch);
}

/* ---- Texts ------------------------------------------------------------- */

static void seed_args(void) {
  static const char all[] =
      "'dir/it''s'\0table=t1\0key=int\0mode=ro\0sync=normal\0"
      "busy_timeout=10\0memory='64M'\0compression=zstd\0filter_bits=12\0"
      "background=off\0mmap=off\0directonly=on";
  put_seed("args", "all", all, sizeof all - 1);
  put_text("args", "path", "\"a \"\"b\"\"\"");
  put_text("args", "empty", "");
  put_text("args", "mistyped", "compresion = lz4");
}

static void seed_http(void) {
  put_text("http", "put",
           "PUT /v1/kv/a%2Fb%00c?table=kv&limit=10 HTTP/1.1\r\n"
           "Host: localhost:8080\r\nContent-Length: 5\r\n"
           "Strata-Type: integer\r\nIf-Match: \"4096\", W/\"17\"\r\n\r\n12345");
  put_text("http", "chunked",
           "POST /v1/batch HTTP/1.1\nHost: [::1]:8080\n"
           "Transfer-Encoding: chunked\nIf-None-Match: *\n"
           "Content-Type: text/plain; charset=utf-8\nExpect: 100-continue\n\n"
           "\xc3\xa4\xf0\x9f\x98\x80");
  put_text("http", "real",
           "PUT /v1/kv/-9223372036854775808 HTTP/1.0\nStrata-Type: real\n"
           "Origin: http://evil\n\n-1.25e-300");
  put_text("http", "smuggle",
           "GET / HTTP/1.1\nContent-Length: 1\nContent-Length: 2\n"
           "Content-Length : 3\n\n");
}

static void seed_json(void) {
  put_text("json", "legacy", "{\"key\":\"k\",\"value\":\"v\"}");
  put_text("json", "item-text",
           "{\"key\":\"k\",\"value_b64\":\"AAEC\",\"type\":\"text\"}");
  put_text("json", "item-real",
           "{\"key_b64\":\"AP8=\",\"value_real\":\"-inf\",\"version\":3}");
  put_text("json", "item-raw", "{\"key\":-5,\"raw_b64\":\"AQ==\"}");
  put_text("json", "deep", "[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]");
  put_text("json", "too-deep", "[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]");
  put_text("json", "mixed",
           "{\"a\":[1,-2.5e10,true,null,\"\\u00e4\\\\\\\"[\"],\"b\":{}}");
}

static void seed_shared(void) {
  static const uint8_t words[] = {
      16, 0, 8,    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, /* tail */
      48, 0, 0x18, 8,    0,    0,    0,    0,    0,    0,    0, /* visible+8 */
      64, 0, 0x28, 1,    0,    0,    0,    0,    0,    0,    0, /* head */
      81, 0, 4,    60,   0,    0,    0,                         /* owner */
      14, 0, 4,    1,    0,    0,    0,                         /* fence */
      96, 0, 8,    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  put_seed("shared", "words", words, sizeof words);
  put_seed("shared", "one", words, 11);
  put_seed("shared", "owner", words + 33, 7);
}

static void seed_ops(void) {
  uint8_t input[160];
  skv_prng rng = {7};
  for (int i = 0; i < 4; i++) {
    char name[16];
    skv_prng_fill(&rng, input, sizeof input);
    snprintf(name, sizeof name, "%d", i);
    put_seed("ops", name, input, 40u << i > 160 ? 160 : 40u << i);
  }
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  root = argv[1];
  mkdir(root, 0777);
  for (int is_clean = 0; is_clean < 2; is_clean++) {
    fixture_image image = seed_image(is_clean);
    seed_files(&image, is_clean ? "closed" : "died");
    fixture_clear(&image);
  }
  seed_edits();
  seed_batches();
  seed_args();
  seed_http();
  seed_json();
  seed_shared();
  seed_ops();
  return check_end();
}
