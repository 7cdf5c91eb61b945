/* The tables and the parser of options.h. */
#include "ext/tool/options.h"

#include <string.h>

#include "ext/tool/tool.h"

static const skvt_command commands[] = {
    {"check", "STORE", 1, 1, "quiet ",
     "read all of a store and say what is damaged",
     "Prints a line for each finding, \"file:offset: severity: message\".\n"
     "Severity is damage, or note for what cost nothing (a torn last record).\n"
     "The store may be in use. Exit code 1 if there is damage.\n",
     skvt_run_check},
    {"backup", "STORE DIR", 2, 2, "quiet ",
     "make a consistent copy of a store, which may be in use",
     "DIR must be absent or empty. Segments are hard links if DIR is on the\n"
     "same file system. The copy is a store of its own.\n",
     skvt_run_backup},
    {"salvage", "DAMAGED DIR", 2, 2, "quiet ",
     "make a new store of what is whole in a damaged one",
     "DAMAGED is only read, and must be open nowhere. DIR must be absent or\n"
     "empty. Prints what was lost or is doubtful, then what was kept. Exit\n"
     "code 1 if the new store was made and something was lost.\n",
     skvt_run_salvage},
    {"dump", "STORE", 1, 1, "table format ",
     "write all entries, from one snapshot, to standard output",
     "sql     a script that makes ordinary tables, or fills stratakv tables\n"
     "        if they exist; commits every 10,000 rows, and its last line is\n"
     "        \"-- end\", unless it was cut short\n"
     "ndjson  a JSON object a line, {\"key\":..,\"value\":..,\"version\":..}, "
     "and "
     "an\n"
     "        end line; without --table each table's entries follow a line\n"
     "        {\"table\":..,\"key_type\":..}\n",
     skvt_run_dump},
    {"load", "STORE [FILE|-]", 1, 2, "table key-type quiet ",
     "write the entries of an ndjson dump into a store",
     "STORE and its tables are created if they are missing. Entries replace\n"
     "those that are there. Commits every 1 MiB or 10,000 lines, and stops\n"
     "at the first line that is no entry, with exit code 1: the lines before\n"
     "it are committed. Loading again is harmless. An end line is compared\n"
     "with what came; without one, a dump cut between two lines goes\n"
     "unnoticed.\n",
     skvt_run_load},
    {"stat", "STORE", 1, 1, "json ", "print the store's figures", "",
     skvt_run_stat},
    {"inspect", "FILE", 1, 1, "entries ",
     "describe one file of a store, record by record",
     "For people: the form of the lines may change. The store may be in use.\n"
     "Exit code 1 if the file is damaged.\n",
     skvt_run_inspect},
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

typedef enum option_kind {
  OPTION_FLAG,
  OPTION_STRING,
  OPTION_CHOICE
} option_kind;

typedef struct option_choice {
  const char *name; /* NULL ends the list */
  int value;
} option_choice;

static const option_choice option_formats[] = {
    {"sql", SKVT_SQL}, {"ndjson", SKVT_NDJSON}, {NULL, 0}};
static const option_choice option_key_types[] = {{"text", STRATAKV_KEY_TEXT},
                                                 {"blob", STRATAKV_KEY_BLOB},
                                                 {"int", STRATAKV_KEY_INT},
                                                 {NULL, 0}};

typedef struct option_row {
  const char *name;             /* without the dashes */
  option_kind kind;             /* what its argument is */
  size_t offset;                /* of its member in skvt_options */
  const option_choice *choices; /* of a choice */
  const char *argument;         /* for the help text */
  const char *help;             /* a phrase */
} option_row;

#define AT(member) offsetof(skvt_options, member)

static const option_row option_rows[] = {
    {"table", OPTION_STRING, AT(table), NULL, "T",
     "one table (dump: default all; load: default kv)"},
    {"format", OPTION_CHOICE, AT(format), option_formats, "F",
     "sql (the default) or ndjson"},
    {"key-type", OPTION_CHOICE, AT(key_type), option_key_types, "K",
     "text, blob or int, of a table that is created\n(default text)"},
    {"quiet", OPTION_FLAG, AT(is_quiet), NULL, "",
     "print nothing but errors; the exit code tells"},
    {"json", OPTION_FLAG, AT(is_json), NULL, "", "as GET /v1/stats answers"},
    {"entries", OPTION_FLAG, AT(has_entries), NULL, "",
     "a line for each entry too"},
};

#define OPTION_COUNT (sizeof option_rows / sizeof option_rows[0])

/* ---- Parsing ------------------------------------------------------------- */

static const skvt_command *command_find(const char *name) {
  for (size_t i = 0; i < COMMAND_COUNT; i++) {
    if (strcmp(commands[i].name, name) == 0) return &commands[i];
  }
  return NULL;
}

static bool command_takes(const skvt_command *command, const option_row *row) {
  size_t len = strlen(row->name);
  const char *p = command->options;
  while (*p != 0) {
    size_t n = strcspn(p, " ");
    if (n == len && memcmp(p, row->name, n) == 0) return true;
    p += n + 1;
  }
  return false;
}

static const option_row *option_find(const skvt_command *command,
                                     const char *name, size_t len) {
  for (size_t i = 0; i < OPTION_COUNT; i++) {
    const option_row *row = &option_rows[i];
    if (strlen(row->name) == len && memcmp(row->name, name, len) == 0 &&
        command_takes(command, row)) {
      return row;
    }
  }
  return NULL;
}

static bool option_choose(const option_row *row, const char *text, int *out,
                          char *message, size_t size) {
  size_t len;
  for (const option_choice *c = row->choices; c->name != NULL; c++) {
    if (strcmp(c->name, text) == 0) {
      *out = c->value;
      return true;
    }
  }
  len = (size_t)snprintf(message, size, "option --%s must be", row->name);
  for (const option_choice *c = row->choices; c->name != NULL; c++) {
    const char *before = c == row->choices   ? " "
                         : c[1].name == NULL ? " or "
                                             : ", ";
    len += (size_t)snprintf(message + len, size - len, "%s%s", before, c->name);
  }
  snprintf(message + len, size - len, ", not \"%.100s\"", text);
  return false;
}

static bool option_set(const option_row *row, const char *text,
                       skvt_options *out, char *message, size_t size) {
  void *member = (char *)out + row->offset;
  switch (row->kind) {
  case OPTION_FLAG: *(bool *)member = true; return true;
  case OPTION_STRING: *(const char **)member = text; return true;
  default: return option_choose(row, text, member, message, size);
  }
}

/* The option at argv[*i], with its argument, which may be the next word. */
static bool option_take(int argc, char **argv, int *i, unsigned *seen,
                        skvt_options *out, char *message, size_t size) {
  const char *name = argv[*i] + 2;
  size_t len = strcspn(name, "=");
  const char *argument = name[len] == '=' ? name + len + 1 : NULL;
  const option_row *row = option_find(out->command, name, len);
  unsigned bit;
  if (row == NULL) {
    snprintf(message, size, "%s has no option \"--%.*s\"", out->command->name,
             len > 100 ? 100 : (int)len, name);
    return false;
  }
  bit = 1u << (row - option_rows);
  if ((*seen & bit) != 0) {
    snprintf(message, size, "option --%s given twice", row->name);
    return false;
  }
  *seen |= bit;
  if (row->kind == OPTION_FLAG && argument != NULL) {
    snprintf(message, size, "option --%s takes no argument", row->name);
    return false;
  }
  if (row->kind != OPTION_FLAG && argument == NULL) {
    if (++*i == argc) {
      snprintf(message, size, "option --%s needs an argument", row->name);
      return false;
    }
    argument = argv[*i];
  }
  return option_set(row, argument, out, message, size);
}

static skvt_wish option_check(const skvt_options *out, unsigned words,
                              char *message, size_t size) {
  const skvt_command *command = out->command;
  if (words >= command->least && words <= command->most) return SKVT_RUN;
  snprintf(message, size, "usage: stratakv-tool %s %s", command->name,
           command->arguments);
  return SKVT_USAGE;
}

/* What stands behind the subcommand. */
static skvt_wish option_parse_rest(int argc, char **argv, skvt_options *out,
                                   char *message, size_t size) {
  bool is_ended = false;
  unsigned seen = 0, words = 0;
  for (int i = 2; i < argc; i++) {
    const char *word = argv[i];
    bool is_option = !is_ended && word[0] == '-' && word[1] != 0;
    if (is_option && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
      return SKVT_HELP;
    }
    if (is_option && strcmp(word, "--") == 0) {
      is_ended = true;
    } else if (is_option && word[1] != '-') {
      snprintf(message, size, "%s has no option \"%.100s\"", out->command->name,
               word);
      return SKVT_USAGE;
    } else if (is_option) {
      if (!option_take(argc, argv, &i, &seen, out, message, size)) {
        return SKVT_USAGE;
      }
    } else {
      if (words < SKVT_MAX_WORDS) out->words[words] = word;
      words++;
    }
  }
  return option_check(out, words, message, size);
}

static skvt_wish option_parse_help(int argc, char **argv, skvt_options *out,
                                   char *message, size_t size) {
  if (argc > 3) {
    snprintf(message, size, "usage: stratakv-tool help [SUBCOMMAND]");
    return SKVT_USAGE;
  }
  if (argc == 2) return SKVT_HELP;
  out->command = command_find(argv[2]);
  if (out->command != NULL) return SKVT_HELP;
  snprintf(message, size, "there is no subcommand \"%.100s\"", argv[2]);
  return SKVT_USAGE;
}

skvt_wish skvt_options_parse(int argc, char **argv, skvt_options *out,
                             char *message, size_t size) {
  const char *name = argc > 1 ? argv[1] : "";
  memset(out, 0, sizeof *out);
  if (strcmp(name, "--version") == 0 && argc == 2) return SKVT_VERSION;
  if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 ||
      strcmp(name, "-h") == 0) {
    return option_parse_help(argc, argv, out, message, size);
  }
  out->command = command_find(name);
  if (out->command != NULL) {
    return option_parse_rest(argc, argv, out, message, size);
  }
  if (argc < 2) {
    snprintf(message, size, "name a subcommand");
  } else {
    snprintf(message, size, "there is no subcommand \"%.100s\"", name);
  }
  return SKVT_USAGE;
}

/* ---- Help ---------------------------------------------------------------- */

/* A phrase, its further lines in the column of the first. */
static void help_print(FILE *file, const char *label, const char *help) {
  fprintf(file, "  %-16s ", label);
  for (;;) {
    size_t n = strcspn(help, "\n");
    fprintf(file, "%.*s\n", (int)n, help);
    if (help[n] == 0) return;
    help += n + 1;
    fprintf(file, "%19s", "");
  }
}

static void help_all(FILE *file) {
  fputs("Usage: stratakv-tool SUBCOMMAND ARGUMENTS\n\n", file);
  for (size_t i = 0; i < COMMAND_COUNT; i++) {
    help_print(file, commands[i].name, commands[i].summary);
  }
  help_print(file, "help SUBCOMMAND", "its arguments and options");
  help_print(file, "--version", "print the version");
  fputs("\nExit codes: 0 done; 1 something is wrong with the data; 2 it could "
        "not be done.\n",
        file);
}

static void help_one(FILE *file, const skvt_command *command) {
  fprintf(file, "Usage: stratakv-tool %s [options] %s\n\n%c%s.\n%s%s",
          command->name, command->arguments, command->summary[0] - 'a' + 'A',
          command->summary + 1, command->help[0] != 0 ? "\n" : "",
          command->help);
  fputs("\nOptions:\n", file);
  for (size_t i = 0; i < OPTION_COUNT; i++) {
    const option_row *row = &option_rows[i];
    char label[40];
    if (!command_takes(command, row)) continue;
    snprintf(label, sizeof label, "--%s %s", row->name, row->argument);
    help_print(file, label, row->help);
  }
}

void skvt_options_help(FILE *file, const skvt_command *command) {
  if (command == NULL) {
    help_all(file);
  } else {
    help_one(file, command);
  }
}
