/*
 * Images of whole stores as one input.
 *
 * INPUT  any number of files: length of the name (1 byte, 1..31), the name,
 *   size (4 bytes, little-endian, at most FUZZ_FILE_MAX), bytes stored (4
 *   bytes, at most the size; the rest is zero), the bytes.
 */
#ifndef TEST_FUZZ_FUZZ_IMAGE_H
#define TEST_FUZZ_FUZZ_IMAGE_H

#include "engine/os/env.h"
#include "test/c/db_fixture.h"
#include "test/fuzz/fuzz.h"

#define FUZZ_FILE_MAX ((size_t)256 * 1024)
#define FUZZ_FILES 32

/* The files that the input has; what is malformed ends it. */
static inline fixture_image fuzz_image_read(const uint8_t *data, size_t size) {
  fixture_image image = {0};
  fuzz_input in = {data, data + size};
  while (fuzz_more(&in) && image.count < FUZZ_FILES) {
    char name[32] = {0};
    size_t n = fuzz_u8(&in);
    if (n == 0 || n > 31) break;
    skv_slice text = fuzz_take(&in, n);
    memcpy(name, text.data, text.size);
    if (strlen(name) != n || strchr(name, '/') != NULL || name[0] == '.') break;
    size_t bytes = (size_t)fuzz_u64(&in, 4), stored = (size_t)fuzz_u64(&in, 4);
    if (bytes > FUZZ_FILE_MAX || stored > bytes ||
        stored > (size_t)(in.end - in.p) || fixture_find(&image, name) != NULL)
      break;
    skv_slice content = fuzz_take(&in, stored);
    fixture_file *file = fixture_add(&image, name, NULL, bytes);
    if (stored > 0) memcpy(file->bytes, content.data, stored);
  }
  return image;
}

static inline size_t fuzz_image_stored(const fixture_file *file) {
  size_t stored = file->size;
  while (stored > 0 && file->bytes[stored - 1] == 0) stored--;
  return stored;
}

/* Write the image; returns its size, 0 if it does not fit. */
static inline size_t fuzz_image_write(const fixture_image *image, uint8_t *out,
                                      size_t max) {
  size_t at = 0;
  for (size_t i = 0; i < image->count; i++) {
    const fixture_file *file = &image->files[i];
    size_t n = strlen(file->name), stored = fuzz_image_stored(file);
    if (at + 9 + n + stored > max) return 0;
    out[at++] = (uint8_t)n;
    memcpy(out + at, file->name, n);
    at += n;
    skv_put32(out + at, (uint32_t)file->size);
    skv_put32(out + at + 4, (uint32_t)stored);
    at += 8;
    if (stored > 0) memcpy(out + at, file->bytes, stored);
    at += stored;
  }
  return at;
}

#endif
