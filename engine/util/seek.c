/* code of `seek.h` */
#include "engine/util/seek.h"

static unsigned seek_class(uint64_t length) {
  unsigned bits = 0;
  while (length > 0 && bits < SKV_SEEK_CLASSES - 1) {
    length >>= 1;
    bits++;
  }
  return bits;
}

bool skv_seek_try(skv_seek *seek, uint64_t offset, uint64_t length) {
  uint64_t *spent = &seek->spent[seek_class(length)];
  if (*spent >= seek->free + SKV_SEEK_RATE * offset) {
    seek->untried++;
    return false;
  }
  *spent += length;
  seek->work += length;
  return true;
}

int skv_seek_rest(skv_seek *seek, skv_err *err) {
  seek->work = 0;
  if (!seek->pause.call) return STRATAKV_OK;
  return seek->pause.call(seek->pause.arg, err);
}
