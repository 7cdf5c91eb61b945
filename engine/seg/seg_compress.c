/*
 * Compression of block bodies. See seg_compress.h.
 *
 * A zstd context is some 100 KB and dear to make, and segments are read by
 * threads that we know nothing of: a few contexts wait in slots that are taken
 * and filled by atomic exchange. Who finds none makes one, and frees it if
 * the slots are full when it is done.
 */
#include "engine/seg/seg_compress.h"

#include <stdatomic.h>

#define LZ4_STATIC_LINKING_ONLY
#include <lz4.h>
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

#include "engine/util/alloc.h"

#define PACK_RAW 4u /* bytes of the raw length before compressed bytes */
#define PACK_ZSTD_LEVEL 3
#define UNPACK_SLOTS 4

struct skv_packer {
  int compression;   /* STRATAKV_COMPRESSION_* */
  LZ4_stream_t *lz4; /* owned; with lz4 */
  ZSTD_CCtx *zstd;   /* owned; with zstd */
};

static _Atomic(ZSTD_DCtx *) unpack_slots[UNPACK_SLOTS];
static atomic_size_t unpack_refs;

static void *pack_alloc(void *arg, size_t size) {
  SKV_UNUSED(arg);
  return skv_malloc(size);
}

static void pack_free(void *arg, void *p) {
  SKV_UNUSED(arg);
  skv_free(p);
}

static const ZSTD_customMem pack_memory = {pack_alloc, pack_free, NULL};

/* ---- Packing ----------------------------------------------------------- */

int skv_packer_new(int compression, skv_err *err, skv_packer **out) {
  int rc = STRATAKV_OK;
  skv_packer *packer = skv_new(sizeof *packer, &rc);
  if (rc != STRATAKV_OK) goto out;
  packer->compression = compression;
  if (compression == STRATAKV_COMPRESSION_LZ4) {
    packer->lz4 = skv_malloc(sizeof *packer->lz4);
    if (!packer->lz4)
      rc = STRATAKV_NOMEM;
    else
      LZ4_initStream(packer->lz4, sizeof *packer->lz4);
  } else if (compression == STRATAKV_COMPRESSION_ZSTD) {
    packer->zstd = ZSTD_createCCtx_advanced(pack_memory);
    if (!packer->zstd) rc = STRATAKV_NOMEM;
  }

out:
  if (rc != STRATAKV_OK) {
    skv_packer_free(packer);
    packer = NULL;
    rc = skv_error_nomem(err);
  }
  *out = packer;
  return rc;
}

void skv_packer_free(skv_packer *packer) {
  if (!packer) return;
  skv_free(packer->lz4);
  ZSTD_freeCCtx(packer->zstd);
  skv_free(packer);
}

static size_t pack_lz4(skv_packer *packer, skv_slice src, uint8_t *dst,
                       size_t room) {
  int n = LZ4_compress_fast_extState_fastReset(
      packer->lz4, (const char *)src.data, (char *)dst, (int)src.size,
      (int)room, 1);
  return n > 0 ? (size_t)n : 0;
}

/* zstd out of memory counts as not worth it, too. */
static size_t pack_zstd(skv_packer *packer, skv_slice src, uint8_t *dst,
                        size_t room) {
  size_t n = ZSTD_compressCCtx(packer->zstd, dst, room, src.data, src.size,
                               PACK_ZSTD_LEVEL);
  return ZSTD_isError(n) ? 0 : n;
}

size_t skv_packer_pack(skv_packer *packer, skv_slice src, uint8_t *dst) {
  if (packer->compression == STRATAKV_COMPRESSION_NONE) return 0;
  if (src.size < 2 * PACK_RAW || src.size >= SKV_COMPRESS_LIMIT) return 0;
  size_t room = src.size - src.size / 8 - PACK_RAW, n;
  if (packer->compression == STRATAKV_COMPRESSION_LZ4)
    n = pack_lz4(packer, src, dst + PACK_RAW, room);
  else
    n = pack_zstd(packer, src, dst + PACK_RAW, room);
  if (n == 0) return 0;
  skv_put32(dst, (uint32_t)src.size);
  return n + PACK_RAW;
}

/* ---- Unpacking --------------------------------------------------------- */

static ZSTD_DCtx *unpack_take(void) {
  for (int i = 0; i < UNPACK_SLOTS; i++) {
    ZSTD_DCtx *ctx = atomic_exchange(&unpack_slots[i], NULL);
    if (ctx) return ctx;
  }
  return ZSTD_createDCtx_advanced(pack_memory);
}

static void unpack_give(ZSTD_DCtx *ctx) {
  for (int i = 0; i < UNPACK_SLOTS; i++) {
    ZSTD_DCtx *empty = NULL;
    if (atomic_compare_exchange_strong(&unpack_slots[i], &empty, ctx)) return;
  }
  ZSTD_freeDCtx(ctx);
}

void skv_unpack_ref(void) { atomic_fetch_add(&unpack_refs, 1); }

void skv_unpack_unref(void) {
  if (atomic_fetch_sub(&unpack_refs, 1) != 1) return;
  for (int i = 0; i < UNPACK_SLOTS; i++)
    ZSTD_freeDCtx(atomic_exchange(&unpack_slots[i], NULL));
}

size_t skv_unpack_size(skv_slice body) {
  size_t raw = body.size > PACK_RAW ? skv_get32(body.data) : 0;
  return raw < SKV_COMPRESS_LIMIT ? raw : 0;
}

static int unpack_zstd(skv_slice src, uint8_t *dst, size_t raw) {
  ZSTD_DCtx *ctx = unpack_take();
  if (!ctx) return STRATAKV_NOMEM;
  size_t n = ZSTD_decompressDCtx(ctx, dst, raw, src.data, src.size);
  unpack_give(ctx);
  return n == raw ? STRATAKV_OK : STRATAKV_CORRUPT;
}

int skv_unpack(int compression, skv_slice body, uint8_t *dst) {
  size_t raw = skv_unpack_size(body);
  if (raw == 0) return STRATAKV_CORRUPT;
  skv_slice src = skv_slice_of(body.data + PACK_RAW, body.size - PACK_RAW);
  if (compression == STRATAKV_COMPRESSION_ZSTD)
    return unpack_zstd(src, dst, raw);
  int n = LZ4_decompress_safe((const char *)src.data, (char *)dst,
                              (int)src.size, (int)raw);
  return n == (int)raw ? STRATAKV_OK : STRATAKV_CORRUPT;
}
