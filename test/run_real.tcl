# run_real.tcl --
#
# What `make run` does: the main job on real data, end to end.
#
#   tclsh test/run_real.tcl ?file?
#
# The file is in the format of /var/lib/dpkg/status (the default). Each step
# says what it does and shows what came out; what came out is compared with the
# file, read here independently. The first wrong step ends it with status 1.
# The database and its store stay in build/run for a look around.

set env(SKV_BUILD) [file join [file dirname [file dirname \
  [file normalize [info script]]]] build]
source [file join [file dirname [info script]] tester.tcl]

set input [file normalize [file join $test_root \
  [expr {[llength $argv] ? [lindex $argv 0] : "/var/lib/dpkg/status"}]]]
set place [file join $test_root build run]

# ---- Saying and checking ---------------------------------------------------------

proc step {text} { puts "\n== [incr ::step_count]. $text"; flush stdout }
proc show {text} {
  set lines [split [string trimright $text \n] \n]
  foreach line [lrange $lines 0 11] {
    puts "   [string range $line 0 99]"
  }
  if {[llength $lines] > 12} { puts "   ... ([llength $lines] lines)" }
  flush stdout
}

# Stop unless what came out is what was to come out.
proc must_be {what got expected} {
  if {$got eq $expected} {
    puts "   ok: $what"
    return
  }
  puts "   WRONG: $what"
  puts "   expected: [string range $expected 0 300]"
  puts "   got:      [string range $got 0 300]"
  give_up
}

proc give_up {} {
  close_all_processes
  puts "\nmake run: FAILED at step $::step_count"
  exit 1
}

# Type SQL into the open shell, show it and its answer, and return the answer.
proc sql {text {quiet 0}} {
  foreach line [split [string trim $text] \n] { puts "   sqlite> $line" }
  set answer [shell_ask $::shell $text]
  if {!$quiet} { show $answer }
  if {[regexp {(?n)^(Parse |Runtime )?[Ee]rror.*} $answer message]} {
    puts "   WRONG: $message"
    give_up
  }
  return $answer
}

proc quoted {text} { return '[string map {' ''} $text]' }

# ---- The model: what the file holds, read without SQL -----------------------------

proc read_stanzas {path} {
  set f [open $path]
  fconfigure $f -encoding utf-8
  set text [string trim [read $f] \n]
  close $f
  set stanzas {}
  foreach stanza [split [string map [list \n\n \x1e] $text] \x1e] {
    if {[regexp -line {^Package: (.*)$} $stanza -> name]} {
      dict set stanzas $name [string trimleft $stanza \n]\n
    }
  }
  return $stanzas
}

# Keys in the store's order: by bytes, which for UTF-8 is by code point.
proc keys_where {expression} {
  set keys {}
  foreach key $::keys { if $expression { lappend keys $key } }
  return $keys
}

if {![file readable $input]} {
  puts stderr "make run: cannot read $input; name another with INPUT=file"
  exit 1
}
set model [read_stanzas $input]
set keys [lsort [dict keys $model]]
if {[llength $keys] < 3} {
  puts stderr "make run: $input holds fewer than 3 packages"
  exit 1
}
set middle [lindex $keys [expr {[llength $keys] / 2}]]
set prefix [expr {[llength [keys_where {[string match lib* $key]}]] ? "lib" :
  [string range $middle 0 0]}]
file delete -force $place
file mkdir $place
cd $place

if {[catch {

puts "StrataKV on real data: $input, [llength $keys] packages"

# ---- SQL ---------------------------------------------------------------------------

step "open a database in the sqlite3 shell and create the table"
puts "   \$ sqlite3 build/run/app.db"
puts "   sqlite> .load build/stratakv"
set shell [spawn_shell "" app.db]
sql "CREATE VIRTUAL TABLE kv USING stratakv('app.strata');"
must_be "the store is a directory beside the database" \
  [file isdirectory app.strata] 1

step "import the file: each stanza under its package's name"
shell_send $shell ".parameter set :input \"[quoted $input]\""
sql ".read [file join $test_root sql import_dpkg.sql]"
must_be "as many rows as the file has packages" \
  [sql "SELECT count(*) FROM kv;"] [llength $keys]
must_be "all keys, in order" [sql "SELECT key FROM kv ORDER BY key;" 1] \
  [join $keys \n]
must_be "and in the other order" \
  [sql "SELECT key FROM kv ORDER BY key DESC;" 1] [join [lreverse $keys] \n]
must_be "all bytes" \
  [sql "SELECT sum(length(value)) FROM kv;"] \
  [string length [join [dict values $model] {}]]

step "look one up"
must_be "$middle is what the file says" \
  [sql "SELECT value FROM kv WHERE key = [quoted $middle];"] \
  [string trim [dict get $model $middle]]
must_be "a package that is not there" \
  [sql "SELECT count(*) FROM kv WHERE key = 'no-such-package';"] 0

step "all with a prefix, and a range"
must_be "the packages that begin with $prefix" \
  [sql "SELECT key FROM kv WHERE key GLOB '$prefix*' ORDER BY key;"] \
  [join [keys_where {[string match $::prefix* $key]}] \n]
must_be "the last three below $middle" \
  [sql "SELECT key FROM kv WHERE key < [quoted $middle]\
    ORDER BY key DESC LIMIT 3;"] \
  [join [lrange [lreverse [keys_where \
    {[string compare $key $::middle] < 0}]] 0 2] \n]
must_be "neither scans the table" \
  [regexp {scan\M} [sql "EXPLAIN QUERY PLAN SELECT key FROM kv\
    WHERE key GLOB '$prefix*' ORDER BY key DESC;"]] 0

step "update, delete"
set first [lindex $keys 0]
set last [lindex $keys end]
sql "UPDATE kv SET value = 'Package: $first (looked at)' WHERE key = [quoted $first];"
must_be "$first is updated" \
  [sql "SELECT value FROM kv WHERE key = [quoted $first];"] \
  "Package: $first (looked at)"
sql "DELETE FROM kv WHERE key = [quoted $last];"
must_be "$last is gone" [sql "SELECT count(*), max(key) FROM kv;"] \
  "[expr {[llength $keys] - 1}]|[lindex $keys end-1]"

step "a transaction that is rolled back"
sql "BEGIN;\nDELETE FROM kv;\nINSERT INTO kv VALUES('only', 1);"
must_be "inside, one row is left" [sql "SELECT count(*), key FROM kv;"] "1|only"
sql "ROLLBACK;"
must_be "outside, nothing happened" [sql "SELECT count(*), max(key) FROM kv;"] \
  "[expr {[llength $keys] - 1}]|[lindex $keys end-1]"

# ---- The daemon beside it ----------------------------------------------------------

step "serve the same store over HTTP, while the shell has it open"
set daemon [daemon_start -store app.strata]
puts "   \$ build/stratakvd --listen 127.0.0.1:[dict get $daemon port]\
  build/run/app.strata &"

proc get {key} {
  puts "   \$ curl [url $::daemon /v1/kv/$key]"
  lassign [curl [url $::daemon /v1/kv/$key]] status head body
  set body [encoding convertfrom utf-8 $body]
  show $body
  list $status $body
}
must_be "curl reads what SQL wrote" [get $middle] \
  [list 200 [dict get $model $middle]]
must_be "and does not find what SQL deleted" [lindex [get $last] 0] 404
puts "   \$ curl -X PUT --data-binary 'from curl' [url $daemon /v1/kv/hello]"
must_be "curl writes" \
  [lindex [curl -X PUT --data-binary {from curl} [url $daemon /v1/kv/hello]] 0] \
  201
must_be "and the shell reads it" \
  [sql "SELECT value, typeof(value) FROM kv WHERE key = 'hello';"] \
  "from curl|text"

# ---- SIGKILL -----------------------------------------------------------------------

step "kill the daemon with SIGKILL in the middle of writes"
set f [open requests w]
for {set i 0} {$i < 100000} {incr i} {
  if {$i} { puts $f next }
  puts $f "url = \"[url $daemon /v1/kv/ack:[format %06d $i]]\""
  puts $f "request = PUT\ndata-binary = \"value $i\"\noutput = curl.out"
  puts $f "write-out = \"%{http_code} $i\\n\""
}
close $f
puts "   \$ curl --fail-early -K requests    # one PUT after the other; 201 is the promise"
set writer [spawn_process [list curl --silent --fail-early --noproxy * \
  -K requests]]
set busy [wait_until {
  [regexp -all {(?n)^201 } [proc_output $writer]] >= 500
} 30000]
puts "   \$ kill -9 [dict get $daemon pid]"
set code [daemon_stop $daemon SIGKILL]
set output [lindex [proc_result $writer] 1]
set acknowledged {}
foreach {- i} [regexp -all -inline {(?n)^201 (\d+)$} $output] {
  lappend acknowledged $i
}
must_be "it was writing, and died by the signal" [list $busy $code] {1 SIGKILL}
puts "   [llength $acknowledged] writes were acknowledged"

# What is in the store, compared with what was acknowledged. A write that was
# on its way may be there too.
proc check_acknowledged {} {
  set rows [split [sql \
    "SELECT key, value FROM kv WHERE key GLOB 'ack:*' ORDER BY key;"] \n]
  set missing 0
  foreach i $::acknowledged {
    if {[lindex $rows $i] ne "ack:[format %06d $i]|value $i"} { incr missing }
  }
  must_be "none of them is missing" $missing 0
  must_be "nothing was invented (one write may have been on its way)" \
    [expr {[llength $rows] - [llength $::acknowledged] in {0 1}}] 1
}
step "the shell, still open, goes on at once"
check_acknowledged
sql "INSERT OR REPLACE INTO kv VALUES('after', 'the crash');"

step "close the shell and open the store again"
shell_end $shell
must_be "the shell ends" [lindex [proc_result $shell] 0] 0
set shell [spawn_shell "" app.db]
puts "   \$ sqlite3 build/run/app.db"
check_acknowledged
must_be "and what was written after the crash" \
  [sql "SELECT value FROM kv WHERE key = 'after';"] "the crash"
must_be "all packages are as they were" \
  [sql "SELECT count(*) FROM kv WHERE value GLOB 'Package: *';"] \
  [llength [keys_where {[string match {Package: *} \
    [dict get $::model $key]] && $key ne $::last}]]
shell_end $shell
must_be "the shell ends" [lindex [proc_result $shell] 0] 0

} message options]} {
  puts "   WRONG: $message"
  puts [dict get $options -errorinfo]
  give_up
}

close_all_processes
file delete requests curl.out
puts "\nEverything came out right. Look around:"
puts "  sqlite3 build/run/app.db -cmd '.load build/stratakv' <sql/inspect.sql"
cd $test_root
file delete -force [test_dir]
exit 0
