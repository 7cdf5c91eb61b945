# StrataKV: everything is built from here, into build/.  `make help` lists
# the targets.
#
#   build/            the extension, the daemon, the tool, the library
#   build/test/       the same sources with -DSKV_TEST, and the C tests
#   build/asan/       the test build under AddressSanitizer and UBSan
#   build/tsan/       the test build under ThreadSanitizer
#   build/fuzz/       the test build with libFuzzer (clang), made by `make fuzz`
#   build/gcov/       the test build that counts branches
#
# Each of them is called a flavour, and has its objects in obj/.

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif

ifeq ($(origin CC),default)
CC := gcc
endif
AR ?= ar
TCLSH ?= tclsh
CLANG_FORMAT ?= clang-format
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
OPT ?= -O2 -g
WERROR ?=
# V=1 shows the commands.
Q := $(if $(filter-out 0,$(V)),,@)
SAY := $(if $(filter-out 0,$(V)),@:,@echo)

# What `make test` and its relatives pass on.
MATCH ?= *
PERM ?= default
SEED ?=
JOBS ?=

# Messages have a fixed size and are cut on purpose.
CC_WARNINGS := $(if $(findstring clang,$(CC)),,-Wno-format-truncation)
WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes \
  -Wmissing-prototypes -Wvla $(CC_WARNINGS) $(if $(filter-out 0,$(WERROR)),-Werror)
CPPFLAGS_ALL := -I. -Iinclude -D_GNU_SOURCE $(CPPFLAGS)
CFLAGS_ALL := -std=c11 $(OPT) $(WARNINGS) -fPIC -fvisibility=hidden \
  -fno-strict-aliasing -pthread $(CFLAGS)
LDFLAGS_ALL := -pthread $(LDFLAGS)

# lz4 and zstd go in statically, so that .load works on any machine. xxHash is
# header-only (XXH_INLINE_ALL).
CODECS := -l:liblz4.a -l:libzstd.a

ENGINE := $(sort $(wildcard engine/*/*.c))
EXT := $(sort $(wildcard ext/sqlite/*.c))
JSON := $(sort $(wildcard ext/json/*.c))
HTTPD := $(sort $(wildcard ext/httpd/*.c)) $(JSON)
TOOL := $(sort $(wildcard ext/tool/*.c)) $(JSON)
C_TESTS := $(sort $(wildcard test/c/*_test.c))
WRAPPING := $(shell grep -l '^ \* Wraps: ' $(C_TESTS))
# The rest of test/c: linked into the test build's extension.
C_HELPERS := $(filter-out $(C_TESTS),$(sort $(wildcard test/c/*.c)))
# Fuzz targets, and what is linked into each of them (test/fuzz/fuzz.h).
FUZZ := $(sort $(wildcard test/fuzz/*_fuzz.c))
FUZZ_COMMON := test/fuzz/fuzz_mutate.c
FUZZ_TOOLS := test/fuzz/fuzz_replay.c test/fuzz/fuzz_seeds.c
TIDY := $(sort $(wildcard include/*.h engine/*/*.[ch] ext/*/*.[ch] \
  test/c/*.[ch] test/bench/*.[ch] test/fuzz/*.[ch] test/preload/*.c))

# ---- Packages ----------------------------------------------------------------

BUILD_PACKAGES := gcc libc6-dev binutils libxxhash-dev liblz4-dev libzstd-dev \
  libmicrohttpd-dev libjansson-dev libsqlite3-dev
RUN_PACKAGES := sqlite3 tcl libsqlite3-tcl curl procps
TEST_PACKAGES := strace clang-format spin
CLANG_PACKAGES := clang libclang-rt-14-dev
BENCH_PACKAGES := librocksdb-dev liblmdb-dev

# Only what the goals need is asked for.
PACKAGES := $(BUILD_PACKAGES) $(RUN_PACKAGES)
ifneq ($(filter test test-% asan tsan soak coverage fuzz-run deps,$(MAKECMDGOALS)),)
PACKAGES += $(TEST_PACKAGES)
endif
ifneq ($(findstring clang,$(CC)),)
PACKAGES += $(CLANG_PACKAGES)
endif
DEPS := $(if $(filter run test test-% asan tsan soak coverage serve fuzz-run,\
  $(MAKECMDGOALS)),deps)

# $(call need_packages,names): quick and silent if all are there.
define need_packages
@missing=; for p in $(1); do \
  case "$$(dpkg-query -W -f '$${Status}' $$p 2>/dev/null)" in \
  *" installed") ;; *) missing="$$missing $$p" ;; esac; done; \
if [ -n "$$missing" ]; then \
  if ! command -v apt-get >/dev/null; then \
    echo "This is no Debian: please install what these packages hold:" >&2; \
    echo "  $$missing" >&2; exit 1; fi; \
  if [ "$$(id -u)" != 0 ]; then \
    echo "Packages are missing. As root, type:" >&2; \
    echo "  apt-get install -y --no-install-recommends$$missing" >&2; \
    exit 1; fi; \
  echo "Installing:$$missing"; \
  export DEBIAN_FRONTEND=noninteractive; \
  apt-get update -qq && \
  apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
fi
endef

.PHONY: deps bench-deps
deps:
	$(call need_packages,$(PACKAGES))
bench-deps:
	$(call need_packages,$(BUILD_PACKAGES) $(RUN_PACKAGES) $(BENCH_PACKAGES))

# ---- One flavour: $(1) is its directory, $(2) its extra flags ----------------
#
# The objects depend on a file that holds the compiler and its flags, so that
# CC=clang or WERROR=1 compiles again and nothing is mixed.

define flavour
$(1)/obj/%.o: %.c $(1)/obj/flags | $(DEPS)
	@mkdir -p $$(@D)
	$$(SAY) '  cc $$@'
	$$(Q)$$(CC) $$(CPPFLAGS_ALL) $$(CFLAGS_ALL) $(2) -MMD -MP -c -o $$@ $$<

$(1)/obj/flags: FORCE | $(DEPS)
	@mkdir -p $$(@D)
	@echo '$$(CC) $$(CPPFLAGS_ALL) $$(CFLAGS_ALL) $(2) $$(LDFLAGS_ALL)' \
	  >$$@.tmp; cmp -s $$@.tmp $$@ || cp $$@.tmp $$@; rm -f $$@.tmp

$(1)/libstratakv.a: $(ENGINE:%.c=$(1)/obj/%.o)
	@rm -f $$@
	$$(SAY) '  ar $$@'
	$$(Q)$$(AR) rcs $$@ $$^

$(1)/libstratakv.so: $(ENGINE:%.c=$(1)/obj/%.o) build/lib.map
	$$(SAY) '  ld $$@'
	$$(Q)$$(CC) -shared $$(CFLAGS_ALL) $(2) $$(LDFLAGS_ALL) -o $$@ \
	  $$(filter %.o,$$^) -Wl,-soname,libstratakv.so \
	  -Wl,--version-script=build/lib.map $$(CODECS)

$(1)/stratakvd: $(HTTPD:%.c=$(1)/obj/%.o) $(1)/libstratakv.a
	$$(SAY) '  ld $$@'
	$$(Q)$$(CC) $$(CFLAGS_ALL) $(2) $$(LDFLAGS_ALL) -o $$@ $$^ $$(CODECS) \
	  -lmicrohttpd -ljansson

$(1)/stratakv-tool: $(TOOL:%.c=$(1)/obj/%.o) $(1)/libstratakv.a
	$$(SAY) '  ld $$@'
	$$(Q)$$(CC) $$(CFLAGS_ALL) $(2) $$(LDFLAGS_ALL) -o $$@ $$^ $$(CODECS) \
	  -ljansson

-include $$(patsubst %.c,$(1)/obj/%.d,$(ENGINE) $(EXT) $(HTTPD) $(TOOL) \
  $(C_TESTS) $(C_HELPERS) $(FUZZ) $(FUZZ_COMMON) $(FUZZ_TOOLS))

# Fuzz targets link what they need of the extension and the daemon.
$(1)/libfuzzed.a: $(EXT:%.c=$(1)/obj/%.o) \
  $(patsubst %.c,$(1)/obj/%.o,$(filter-out ext/httpd/main.c,$(HTTPD)))
	@rm -f $$@
	$$(SAY) '  ar $$@'
	$$(Q)$$(AR) rcs $$@ $$^
endef

# One fuzz program: $(1) the flavour, $(2) its flags, $(3) what has main(),
# $(4) flags that link that.
FUZZ_LIBS := -lsqlite3 -lmicrohttpd -ljansson -lm
define fuzz_programs
$(1)/fuzz/store_fuzz: FUZZ_LINK := -Wl,--wrap=skv_env_posix
$(1)/fuzz/%: $(1)/obj/test/fuzz/%.o $(FUZZ_COMMON:%.c=$(1)/obj/%.o) \
  $(3:%.c=$(1)/obj/%.o) $(1)/libfuzzed.a $(1)/libstratakv.a
	@mkdir -p $$(@D)
	$$(SAY) '  ld $$@'
	$$(Q)$$(CC) $$(CFLAGS_ALL) $(2) $(4) $$(LDFLAGS_ALL) $$(FUZZ_LINK) \
	  -o $$@ $$^ $$(CODECS) $(FUZZ_LIBS)
.SECONDARY: $(patsubst %.c,$(1)/obj/%.o,$(FUZZ) $(FUZZ_COMMON) $(3))
endef

# A test flavour's extension also holds test/c's helpers, with an entry point
# of their own, so that they share engine and allocator with the table.
define test_flavour
$(call flavour,$(1),-DSKV_TEST $(2))

$(1)/stratakv.so: $(ENGINE:%.c=$(1)/obj/%.o) $(EXT:%.c=$(1)/obj/%.o) \
  $(C_HELPERS:%.c=$(1)/obj/%.o) build/test.map
	$$(SAY) '  ld $$@'
	$$(Q)$$(CC) -shared $$(CFLAGS_ALL) $(2) $$(LDFLAGS_ALL) -o $$@ \
	  $$(filter %.o,$$^) -Wl,--version-script=build/test.map $$(CODECS)

$(1)/c/%: $(1)/obj/test/c/%.o $(1)/libstratakv.a
	@mkdir -p $$(@D)
	$$(SAY) '  ld $$@'
	$$(Q)$$(CC) $$(CFLAGS_ALL) $(2) $$(LDFLAGS_ALL) -o $$@ $$^ $$(CODECS) \
	  $$(LIBS)

# In the test of jobs the work is the test's own.
$(1)/c/jobs_test: private LIBS := -Wl,--wrap=skvd_job_do \
  $(1)/libstratakv.a $(CODECS) $(FUZZ_LIBS)
# In that of answers the library fails when it is told to.
$(1)/c/answer_test: private LIBS := -Wl,--wrap=MHD_add_response_header \
  -Wl,--wrap=MHD_create_response_from_buffer -Wl,--wrap=malloc \
  $(1)/libstratakv.a $(CODECS) $(FUZZ_LIBS)
$(1)/c/jobs_test $(1)/c/answer_test: $(1)/libfuzzed.a

# These load the extension that lies beside them.
$(1)/c/diff_test $(1)/c/sqlite_oom_test: private LIBS := -lsqlite3
$(1)/c/diff_test $(1)/c/sqlite_oom_test: | $(1)/stratakv.so

# Tests that stand between the engine and system calls say so: `Wraps:`.
$(foreach t,$(WRAPPING),$(1)/c/$(notdir $(basename $(t)))): private LIBS = \
  $$(shell sed -n 's/^ \* Wraps: //p' test/c/$$(@F).c | tr ' ' '\n' | \
  sed 's/^/-Wl,--wrap=/')

$(call fuzz_programs,$(1),$(2),test/fuzz/fuzz_replay.c)
$(1)/fuzz_seeds: $(1)/obj/test/fuzz/fuzz_seeds.o $(1)/libstratakv.a
	$$(SAY) '  ld $$@'
	$$(Q)$$(CC) $$(CFLAGS_ALL) $(2) $$(LDFLAGS_ALL) -o $$@ $$^ $$(CODECS)

.SECONDARY: $(C_TESTS:%.c=$(1)/obj/%.o)
.PHONY: all-$(1)
all-$(1): $(1)/stratakv.so $(1)/stratakvd $(1)/stratakv-tool \
  $(C_TESTS:test/c/%.c=$(1)/c/%) $(FUZZ:test/fuzz/%.c=$(1)/fuzz/%)
endef

# What tests load before a program that is not built for them.
all-build/test: build/test/failing_malloc.so
build/test/%.so: build/test/obj/test/preload/%.o
	$(SAY) '  ld $@'
	$(Q)$(CC) -shared $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $^
.SECONDARY: build/test/obj/test/preload/failing_malloc.o

SANITIZE := -fno-omit-frame-pointer -fno-sanitize-recover=undefined
ASAN_FLAGS := $(SANITIZE) -fsanitize=address,undefined
ifneq ($(findstring clang,$(CC)),)
ASAN_FLAGS += -shared-libasan -Wl,-rpath,$(dir $(shell $(CC) \
  -print-file-name=libclang_rt.asan-x86_64.so)) -Wno-unused-command-line-argument
endif
# gcc's thread sanitizer does not model fences, and says so.
TSAN_FLAGS := $(SANITIZE) -fsanitize=thread \
  $(if $(findstring clang,$(CC)),,-Wno-tsan)

$(eval $(call flavour,build,))
$(eval $(call test_flavour,build/test,))
$(eval $(call test_flavour,build/asan,$(ASAN_FLAGS)))
$(eval $(call test_flavour,build/tsan,$(TSAN_FLAGS)))
# Branches as they are written; asserts are not ours to reach.
$(eval $(call test_flavour,build/gcov,--coverage -O0 -DNDEBUG -DSKV_COVERAGE))

FUZZ_FLAGS := -DSKV_TEST $(SANITIZE) \
  -fsanitize=fuzzer-no-link,address,undefined
$(eval $(call flavour,build/fuzz,$(FUZZ_FLAGS)))
$(eval $(call fuzz_programs,build/fuzz,$(FUZZ_FLAGS),,-fsanitize=fuzzer))

build/stratakv.so: $(ENGINE:%.c=build/obj/%.o) $(EXT:%.c=build/obj/%.o) \
  build/ext.map
	$(SAY) '  ld $@'
	$(Q)$(CC) -shared $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) \
	  -Wl,--version-script=build/ext.map $(CODECS)

# Who may be seen from outside. `local: *` is also what lets Debian's
# libzstd.a, which is not position-independent, into a shared object.
ENTRY := sqlite3_stratakv_init; stratakv_allow_root;
build/ext.map: Makefile
	@mkdir -p $(@D)
	@echo '{ global: $(ENTRY) local: *; };' >$@
build/test.map: Makefile
	@mkdir -p $(@D)
	@echo '{ global: $(ENTRY) sqlite3_skvtest_init; local: *; };' >$@
build/lib.map: Makefile
	@mkdir -p $(@D)
	@echo '{ global: stratakv_*; local: *; };' >$@

.PHONY: FORCE
FORCE:

# ---- Targets -------------------------------------------------------------------

.PHONY: all release run serve test asan tsan soak test-mutants test-model \
  coverage lint format clean install help
all: release all-build/test
release: build/stratakv.so build/stratakvd build/stratakv-tool \
  build/libstratakv.a build/libstratakv.so

INPUT ?= /var/lib/dpkg/status
run: release | deps
	@$(TCLSH) test/run_real.tcl "$(INPUT)"

STORE ?= build/serve.strata
ARGS ?=
serve: release | deps
	@mkdir -p $(dir $(STORE))
	build/stratakvd $(ARGS) $(STORE)

RUN_TESTS = CC="$(CC)" $(TCLSH) test/run.tcl -match '$(MATCH)' \
  -perm '$(PERM)' -seed '$(SEED)' -jobs '$(JOBS)'

# All of it as it comes, after what meets the store through SQL and processes
# in its other forms.
PERMS := tiny nommap nobackground
PERM_FILES := vtab* daemon seed_bugs processes kill
# Then the sanitizers' turn, with a sample of long sweeps: what decodes, and the
# table; and what shares memory. Only what they run is built.
ASAN_TESTS := attach backup cache check compact damage db decode env fixture \
  mem merge picker recover salvage seg shared store tree util wal
ASAN_FILES := $(ASAN_TESTS:%=%_test) vtab* corrupt
TSAN_TESTS := attach cache history mem order process race sched shared
SANITIZED := build/asan/stratakv.so build/asan/stratakvd \
  $(ASAN_TESTS:%=build/asan/c/%_test) $(TSAN_TESTS:%=build/tsan/c/%_test)
test: all $(if $(filter *default,$(MATCH)$(PERM)),$(SANITIZED)) | deps
ifeq ($(MATCH)$(PERM),*default)
	@rm -f build/counts.tsv
	@for p in $(PERMS); do $(TCLSH) test/run.tcl -build build/test -perm $$p \
	  -counts build/counts.tsv \
	  -match '$(PERM_FILES)' -seed '$(SEED)' -jobs '$(JOBS)' || exit 1; done
	@SKV_SAMPLE=8 CC="$(CC)" $(TCLSH) test/run.tcl -build build/asan \
	  -sanitizer asan -match '$(ASAN_FILES)' -seed '$(SEED)' -jobs '$(JOBS)' || exit 1
	@SKV_SAMPLE=8 SKV_PART=2 CC="$(CC)" $(TCLSH) test/run.tcl -build build/tsan \
	  -sanitizer tsan -match '$(TSAN_TESTS:%=%_test)' -seed '$(SEED)' -jobs '$(JOBS)' || exit 1
	@$(RUN_TESTS) -build build/test -counts build/counts.tsv \
	  -floors test/floors.tsv
else
	@$(RUN_TESTS) -build build/test
endif

# The suite in a sanitized build. tclsh and sqlite3 are ordinary programs:
# the sanitizer's library is loaded before them.
asan: release all-build/asan | deps
	@$(RUN_TESTS) -build build/asan -sanitizer asan
tsan: release all-build/tsan | deps
	@$(RUN_TESTS) -build build/tsan -sanitizer tsan

# The long form: T is 85m, 90s or 12h.
T ?= 85m
soak: all all-build/asan all-build/tsan | deps
	@CC="$(CC)" $(TCLSH) test/soak.tcl '$(T)' '$(SEED)'

# Each planted bug of test/mutants must be caught: hours. KIND=sync MATCH=.
KIND ?= *
test-mutants: all all-build/asan all-build/tsan | deps
	@CC="$(CC)" $(TCLSH) test/mutants/mutants.tcl -kind '$(KIND)' \
	  -match '$(MATCH)' -out build/mutants.tsv $(if $(JOBS),-jobs $(JOBS))

# Each target, or TARGET, for T seconds (60), from the corpus on. What is new stays
# in build/fuzz/new; what failed is in build/fuzz/found.
FUZZ_T := $(if $(filter file,$(origin T)),60,$(T:%s=%))
TARGET ?= $(FUZZ:test/fuzz/%_fuzz.c=%)
.PHONY: fuzz fuzz-run fuzz-seeds
fuzz:
	@$(MAKE) --no-print-directory CC=clang fuzz-run
fuzz-run: $(TARGET:%=build/fuzz/fuzz/%_fuzz)
	@mkdir -p build/fuzz/found; for t in $(TARGET); do \
	  echo "$$t:"; mkdir -p build/fuzz/new/$$t; \
	  build/fuzz/fuzz/$${t}_fuzz -max_total_time=$(FUZZ_T) -timeout=10 \
	  -rss_limit_mb=1024 -malloc_limit_mb=256 -print_final_stats=1 \
	  -max_len=65536 -artifact_prefix=build/fuzz/found/$$t- \
	  build/fuzz/new/$$t test/fuzz/corpus/$$t || exit 1; done
# The first inputs of every target, from real stores.
fuzz-seeds: build/test/fuzz_seeds
	@build/test/fuzz_seeds test/fuzz/corpus

# make test-images, test-kill, ...: the tests of that name.
test-%: all | deps
	@$(TCLSH) test/run.tcl -build build/test -match '$**' -seed '$(SEED)' \
	  -jobs '$(JOBS)' -perm '$(PERM)'

# More processes and deaths than in make test.
test-model: all | deps
	@SKV_MODEL=full $(TCLSH) test/run.tcl -build build/test -match model

# Branches of the files that every byte of a store passes, against the list of
# those that nothing reaches (test/coverage.tsv). MATCH= runs fewer tests.
coverage: all-build/gcov | deps
	@$(TCLSH) test/coverage.tcl '$(MATCH)'

lint: all
	@status=0; for f in $(sort $(wildcard test/lint/*.tcl)); do \
	  CC="$(CC)" $(TCLSH) $$f || status=1; done; exit $$status

format:
	$(CLANG_FORMAT) -i $(TIDY)

# ---- Benchmarks: they never assert a speed -------------------------------------

BENCH_ENGINES := stratakv rocksdb lmdb sqlite
BENCH_LIBS_stratakv := build/libstratakv.a $(CODECS)
BENCH_LIBS_rocksdb := -lrocksdb
BENCH_LIBS_lmdb := -llmdb
BENCH_LIBS_sqlite := -lsqlite3
BENCH_COMMON := $(addprefix build/bench/obj/,bench.o bench_util.o)

build/bench/obj/%.o: test/bench/%.c build/obj/flags
	@mkdir -p $(@D)
	$(SAY) '  cc $@'
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<
-include $(wildcard build/bench/obj/*.d)
build/bench/obj/engine_rocksdb.o: CPPFLAGS_ALL += \
  -DBENCH_ROCKSDB_VERSION='"$(shell dpkg-query -W -f '$${Version}' \
  librocksdb-dev 2>/dev/null)"'

$(BENCH_ENGINES:%=build/bench/bench-%): build/bench/bench-%: \
  build/bench/obj/engine_%.o $(BENCH_COMMON) build/libstratakv.a
	$(SAY) '  ld $@'
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) \
	  $(BENCH_LIBS_$*) -lm
build/bench/raw build/bench/seed build/bench/pause: build/bench/%: \
  build/bench/obj/%.o build/bench/obj/bench_util.o build/libstratakv.a
	$(SAY) '  ld $@'
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $^ $(CODECS) -lm

.PHONY: bench bench-seed bench-large bench-pause
bench: bench-deps | release
	@$(MAKE) --no-print-directory build/bench/raw \
	  $(BENCH_ENGINES:%=build/bench/bench-%)
	@$(TCLSH) test/bench/bench.tcl $(ARGS)
bench-seed: build/bench/seed
	@build/bench/seed $(ARGS)
bench-large: release
	@$(TCLSH) test/bench/large.tcl $(ARGS)
bench-pause: build/bench/pause
	@build/bench/pause $(ARGS)

# ---- The rest ------------------------------------------------------------------

install: release
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(LIBDIR)' \
	  '$(DESTDIR)$(PREFIX)/include'
	install -m 755 build/stratakvd build/stratakv-tool \
	  '$(DESTDIR)$(PREFIX)/bin'
	install -m 644 build/stratakv.so build/libstratakv.so \
	  build/libstratakv.a '$(DESTDIR)$(LIBDIR)'
	install -m 644 include/stratakv.h '$(DESTDIR)$(PREFIX)/include'

clean:
	rm -rf build

help:
	@echo 'make             the extension, the daemon, stratakv-tool, the library,'
	@echo '                 the test build'
	@echo 'make deps        install the packages that are missing (Debian, as root)'
	@echo 'make run         the main job on real data; INPUT=file, dpkg status format'
	@echo 'make serve       the daemon; STORE=directory ARGS="--listen 127.0.0.1:8080"'
	@echo 'make test        all tests; MATCH="wal*" PERM=default|tiny|nommap|nobackground'
	@echo '                 SEED=7 JOBS=2 WERROR=1 CC=clang V=1'
	@echo 'make test-images, test-kill, ...  one part of it: the tests of that name'
	@echo 'make asan, tsan  the suite under the sanitizers'
	@echo 'make soak        all of it for T=85m, from a new seed'
	@echo 'make test-mutants  planted bugs, each of which must be caught (hours)'
	@echo 'make fuzz        libFuzzer; T=60 seconds each, TARGET=wal for one'
	@echo 'make coverage    branches of the files that must have all of them'
	@echo 'make lint        layers, symbols, headers, files, format; prints the figures'
	@echo 'make format      clang-format'
	@echo 'make bench       beside RocksDB, LMDB and SQLite; bench-deps installs them'
	@echo 'make bench-seed  the original engine'"'"'s benchmark, beside its figures'
	@echo 'make bench-large 5,000,000 rows by SQL: memory, disk, order'
	@echo 'make bench-pause longest get and put while 1 GiB is compacted'
	@echo 'make install     PREFIX=/usr/local DESTDIR='
	@echo 'make clean       remove build/'
