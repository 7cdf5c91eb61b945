/* The table and the parser of options.h. */
#include "ext/httpd/options.h"

#include <limits.h>
#include <string.h>
#include <strings.h>

#include "stratakv.h"

#define KIB 1024u
#define MIB (1024u * KIB)
#define GIB (1024ull * MIB)

typedef enum option_kind {
  OPTION_FLAG,   /* no argument */
  OPTION_NUMBER, /* decimal, min..max */
  OPTION_SIZE,   /* bytes, with K, M or G; min..max */
  OPTION_SYNC,   /* full, normal, off */
  OPTION_PATH,   /* a directory */
  OPTION_STRING  /* repeatable */
} option_kind;

typedef struct option_row {
  const char *name;     /* without the dashes */
  option_kind kind;     /* what its argument is */
  size_t offset;        /* of its member in skvd_options */
  uint64_t min, max;    /* of numbers and sizes */
  const char *argument; /* for the help text */
  const char *help;     /* a phrase, with the default */
} option_row;

#define AT(member) offsetof(skvd_options, member)

static const option_row option_rows[] = {
    {"listen", OPTION_STRING, AT(listen), 0, 0, "ADDR",
     "host:port, [v6]:port or unix:/path; repeatable\n"
     "(default 127.0.0.1:8080)"},
    {"insecure", OPTION_FLAG, AT(is_insecure), 0, 0, "",
     "allow an address that other machines can reach"},
    {"allow-host", OPTION_STRING, AT(allow_hosts), 0, 0, "H",
     "accept this Host header too; repeatable"},
    {"allow-origin", OPTION_STRING, AT(allow_origins), 0, 0, "O",
     "accept requests of web pages from this origin;\nrepeatable"},
    {"sync", OPTION_SYNC, AT(sync), 0, 0, "MODE",
     "full, normal or off: what a write waits for\n(default full)"},
    {"memory", OPTION_SIZE, AT(memory), 4 * MIB, 64 * GIB, "N",
     "memory of the engine, 4M to 64G (default 32M)"},
    {"busy-timeout", OPTION_NUMBER, AT(busy_timeout_ms), 0, 600000, "MS",
     "wait for other writers (default 5000)"},
    {"backup-dir", OPTION_PATH, AT(backup_dir), 0, 0, "D",
     "the directory that POST /v1/admin/backup writes in\n(default none)"},
    {"max-body", OPTION_SIZE, AT(max_body), 1, GIB, "N",
     "largest value (default 16M)"},
    {"body-memory", OPTION_SIZE, AT(body_memory), 1, 1024 * GIB, "N",
     "request bodies in memory, all together\n(default 128M)"},
    {"threads", OPTION_NUMBER, AT(threads), 2, 256, "N",
     "HTTP threads (default: cores, 2 to 8)"},
    {"connections", OPTION_NUMBER, AT(connections), 2, 65535, "N",
     "connections at once (default 256)"},
    {"per-address", OPTION_NUMBER, AT(per_address), 1, 65535, "N",
     "of those, from one address (default 64)"},
    {"no-legacy", OPTION_FLAG, AT(no_legacy), 0, 0, "",
     "switch off /put, /get, /delete and /compact"},
    {"log-keys", OPTION_FLAG, AT(log_keys), 0, 0, "",
     "write request targets, and so keys, to the log"},
};

#define OPTION_COUNT (sizeof option_rows / sizeof option_rows[0])

static const option_row *option_find(const char *name, size_t len) {
  for (size_t i = 0; i < OPTION_COUNT; i++) {
    const option_row *row = &option_rows[i];
    if (strlen(row->name) == len && memcmp(row->name, name, len) == 0) {
      return row;
    }
  }
  return NULL;
}

static unsigned option_least(unsigned a, unsigned b, unsigned c) {
  unsigned least = a < b ? a : b;
  return least < c ? least : c;
}

/* Edit distance between two short words; UINT_MAX if one is long. */
static unsigned option_distance(const char *a, size_t a_len, const char *b) {
  unsigned row[33];
  size_t b_len = strlen(b);
  if (a_len > 32 || b_len > 32) return UINT_MAX;
  for (size_t j = 0; j <= b_len; j++) row[j] = (unsigned)j;
  for (size_t i = 1; i <= a_len; i++) {
    unsigned corner = row[0];
    row[0] = (unsigned)i;
    for (size_t j = 1; j <= b_len; j++) {
      unsigned above = row[j];
      unsigned change = corner + (a[i - 1] != b[j - 1]);
      row[j] = option_least(above + 1, row[j - 1] + 1, change);
      corner = above;
    }
  }
  return row[b_len];
}

static void option_unknown(const char *name, size_t len, char *message,
                           size_t size) {
  const char *best = NULL;
  unsigned distance = 3;
  for (size_t i = 0; i < OPTION_COUNT; i++) {
    unsigned d = option_distance(name, len, option_rows[i].name);
    if (d < distance) {
      distance = d;
      best = option_rows[i].name;
    }
  }
  if (best != NULL) {
    snprintf(message, size,
             "unknown option \"--%.*s\" (did you mean "
             "\"--%s\"?)",
             (int)len, name, best);
  } else {
    snprintf(message, size, "unknown option \"--%.*s\"", (int)len, name);
  }
}

static bool option_parse_number(const char *text, bool takes_unit,
                                uint64_t *out) {
  static const char units[] = "kmg";
  uint64_t value = 0;
  const char *p = text;
  for (; *p >= '0' && *p <= '9'; p++) {
    if (value > (UINT64_MAX >> 34) / 10) return false;
    value = value * 10 + (uint64_t)(*p - '0');
  }
  if (p == text) return false;
  if (takes_unit && *p != 0) {
    char lower = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
    const char *unit = strchr(units, lower);
    if (unit == NULL) return false;
    value <<= 10 * (unit - units + 1);
    p++;
  }
  *out = value;
  return *p == 0;
}

static bool option_set_number(const option_row *row, const char *text,
                              uint64_t *out, char *message, size_t size) {
  bool is_size = row->kind == OPTION_SIZE;
  uint64_t value;
  if (option_parse_number(text, is_size, &value) && value >= row->min &&
      value <= row->max) {
    *out = value;
    return true;
  }
  snprintf(message, size,
           "option --%s must be %s from %llu to %llu, not "
           "\"%.100s\"",
           row->name, is_size ? "a size" : "a number",
           (unsigned long long)row->min, (unsigned long long)row->max, text);
  return false;
}

static bool option_set_sync(const char *text, int *out, char *message,
                            size_t size) {
  static const char *const names[] = {[STRATAKV_SYNC_FULL] = "full",
                                      [STRATAKV_SYNC_NORMAL] = "normal",
                                      [STRATAKV_SYNC_OFF] = "off"};
  for (int i = 0; i < 3; i++) {
    if (strcasecmp(names[i], text) == 0) {
      *out = i;
      return true;
    }
  }
  snprintf(message, size,
           "option --sync must be full, normal or off, not "
           "\"%.100s\"",
           text);
  return false;
}

static bool option_set_path(const option_row *row, const char *text,
                            const char **out, char *message, size_t size) {
  *out = text;
  if (text[0] != 0) return true;
  snprintf(message, size, "option --%s needs a directory", row->name);
  return false;
}

static bool option_add_string(const option_row *row, const char *text,
                              skvd_strings *out, char *message, size_t size) {
  if (out->count == SKVD_MAX_STRINGS) {
    snprintf(message, size, "option --%s is given over %d times", row->name,
             SKVD_MAX_STRINGS);
    return false;
  }
  out->at[out->count++] = text;
  return true;
}

static bool option_set(const option_row *row, const char *text,
                       skvd_options *out, char *message, size_t size) {
  void *member = (char *)out + row->offset;
  switch (row->kind) {
  case OPTION_FLAG: *(bool *)member = true; return true;
  case OPTION_SYNC: return option_set_sync(text, member, message, size);
  case OPTION_PATH: return option_set_path(row, text, member, message, size);
  case OPTION_STRING:
    return option_add_string(row, text, member, message, size);
  default: return option_set_number(row, text, member, message, size);
  }
}

static void option_defaults(unsigned cores, skvd_options *out) {
  memset(out, 0, sizeof *out);
  out->sync = STRATAKV_SYNC_FULL;
  out->memory = 32 * MIB;
  out->busy_timeout_ms = 5000;
  out->max_body = 16 * MIB;
  out->body_memory = 128 * MIB;
  out->threads = cores < 2 ? 2 : cores > 8 ? 8 : cores;
  out->connections = 256;
  out->per_address = 64;
}

/* The option at argv[*i], with its argument, which may be the next word. */
static bool option_take(int argc, char **argv, int *i, uint64_t *seen,
                        skvd_options *out, char *message, size_t size) {
  const char *name = argv[*i] + 2;
  const char *equals = strchr(name, '=');
  size_t len = equals == NULL ? strlen(name) : (size_t)(equals - name);
  const option_row *row = option_find(name, len);
  uint64_t bit;
  if (row == NULL) {
    option_unknown(name, len, message, size);
    return false;
  }
  bit = 1ull << (row - option_rows);
  if ((*seen & bit) != 0 && row->kind != OPTION_STRING) {
    snprintf(message, size, "option --%s given twice", row->name);
    return false;
  }
  *seen |= bit;
  if (row->kind == OPTION_FLAG && equals != NULL) {
    snprintf(message, size, "option --%s takes no argument", row->name);
    return false;
  }
  if (row->kind != OPTION_FLAG && equals == NULL && ++*i == argc) {
    snprintf(message, size, "option --%s needs an argument", row->name);
    return false;
  }
  return option_set(row, equals != NULL ? equals + 1 : argv[*i], out, message,
                    size);
}

static bool option_take_store(const char *word, skvd_options *out,
                              char *message, size_t size) {
  if (out->store != NULL) {
    snprintf(message, size,
             "there is one store, not \"%.100s\" and "
             "\"%.100s\"",
             out->store, word);
    return false;
  }
  out->store = word;
  return true;
}

/* What no single option can see. */
static bool option_check(skvd_options *out, char *message, size_t size) {
  if (out->store == NULL || out->store[0] == 0) {
    snprintf(message, size, "name the store's directory");
    return false;
  }
  if (out->body_memory < out->max_body) {
    snprintf(message, size, "--body-memory must be at least --max-body");
    return false;
  }
  if (out->connections < out->threads) {
    snprintf(message, size,
             "--connections must be at least --threads, "
             "which is %u",
             (unsigned)out->threads);
    return false;
  }
  if (out->listen.count == 0) {
    out->listen.at[out->listen.count++] = "127.0.0.1:8080";
  }
  return true;
}

skvd_wish skvd_options_parse(int argc, char **argv, unsigned cores,
                             skvd_options *out, char *message, size_t size) {
  bool is_ended = false;
  uint64_t seen = 0;
  option_defaults(cores, out);
  for (int i = 1; i < argc; i++) {
    const char *word = argv[i];
    bool is_option = !is_ended && word[0] == '-' && word[1] != 0;
    if (is_option && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
      return SKVD_HELP;
    }
    if (is_option && strcmp(word, "--") == 0) {
      is_ended = true;
    } else if (is_option && word[1] != '-') {
      snprintf(message, size, "unknown option \"%.100s\"", word);
      return SKVD_USAGE;
    } else if (is_option) {
      if (!option_take(argc, argv, &i, &seen, out, message, size)) {
        return SKVD_USAGE;
      }
    } else if (!option_take_store(word, out, message, size)) {
      return SKVD_USAGE;
    }
  }
  return option_check(out, message, size) ? SKVD_RUN : SKVD_USAGE;
}

/* The sentence, each of its lines in the same column. */
static void option_print_help(FILE *file, const char *help) {
  for (;;) {
    const char *end = strchr(help, '\n');
    if (end == NULL) break;
    fprintf(file, "%.*s\n%25s", (int)(end - help), help, "");
    help = end + 1;
  }
  fprintf(file, "%s\n", help);
}

void skvd_options_help(FILE *file) {
  fputs("Usage: stratakvd [options] STORE\n\n"
        "Serves the StrataKV store in directory STORE over HTTP/1.1, and "
        "shares it with\nevery other process that has it open. The directory "
        "is created if it is missing.\n\nOptions:\n",
        file);
  for (size_t i = 0; i < OPTION_COUNT; i++) {
    char name[40];
    snprintf(name, sizeof name, "--%s %s", option_rows[i].name,
             option_rows[i].argument);
    fprintf(file, "  %-22s ", name);
    option_print_help(file, option_rows[i].help);
  }
  fprintf(file, "  %-22s ", "--help");
  option_print_help(file, "print this text");
  fputs("\nExit codes: 0 after SIGTERM or SIGINT, 1 usage, 2 store, "
        "3 address.\n",
        file);
}
