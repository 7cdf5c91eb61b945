/* The reader of lines.h. */
#include "ext/tool/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ext/tool/tool.h"

#define LINES_FIRST 65536

bool skvt_lines_open(skvt_lines *lines, const char *path) {
  memset(lines, 0, sizeof *lines);
  lines->fd =
      strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
  return lines->fd >= 0;
}

void skvt_lines_close(skvt_lines *lines) {
  if (lines->fd > STDIN_FILENO) close(lines->fd);
  free(lines->data);
}

static bool lines_fail(skvt_lines *lines, int failure) {
  lines->failure = failure;
  return false;
}

/* Make room behind `end`: move the rest to the front, or grow. */
static bool lines_make_room(skvt_lines *lines) {
  size_t capacity = lines->capacity == 0 ? LINES_FIRST : lines->capacity * 2;
  char *data;
  if (lines->start > 0) {
    memmove(lines->data, lines->data + lines->start, lines->end - lines->start);
    lines->end -= lines->start;
    lines->start = 0;
  }
  if (lines->end < lines->capacity) return true;
  if (lines->end >= SKVT_MAX_LINE) return lines_fail(lines, EFBIG);
  data = realloc(lines->data, capacity);
  if (data == NULL) return lines_fail(lines, ENOMEM);
  lines->data = data;
  lines->capacity = capacity;
  return true;
}

/* Read more; false at a failure. */
static bool lines_fill(skvt_lines *lines) {
  ssize_t n;
  if (!lines_make_room(lines)) return false;
  do {
    if (skvt_is_interrupted()) return false;
    n = read(lines->fd, lines->data + lines->end, lines->capacity - lines->end);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return lines_fail(lines, errno);
  lines->is_ended = n == 0;
  lines->end += (size_t)n;
  return true;
}

bool skvt_lines_next(skvt_lines *lines, const char **text, size_t *len) {
  size_t searched = 0;
  for (;;) {
    size_t have = lines->end - lines->start;
    char *line = lines->data + lines->start;
    char *stop =
        have > searched ? memchr(line + searched, '\n', have - searched) : NULL;
    if (stop != NULL || (lines->is_ended && have > 0)) {
      *text = line;
      *len = stop != NULL ? (size_t)(stop - line) : have;
      lines->start += *len + (stop != NULL);
      return !skvt_is_interrupted();
    }
    if (lines->is_ended) return false;
    searched = have;
    if (!lines_fill(lines)) return false;
  }
}
