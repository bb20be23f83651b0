# What must not notice that its machine moves: run by the guest of hack/migrations. It writes memory with a pattern that
# the next round checks, looks at both clocks every 10 ms, keeps all processors busy, has fio write and verify a disk, and
# tells who connects to port 7000 what it has seen, one line of JSON each.
#
#   perl load.pl DISK MEBIBYTES
use strict;
use warnings;
use IO::Socket::INET;
use POSIX ":sys_wait_h";

my ($disk, $mebibytes) = @ARGV;
my ($SYS_MMAP, $SYS_CLOCK_GETTIME) = (9, 228);
my ($REALTIME, $MONOTONIC) = (0, 1);
my ($PAGE, $TICK_S) = (4096, 0.01);
my $directory = "/run/load";
mkdir $directory;

sub clock { my $time = "\0" x 16; syscall($SYS_CLOCK_GETTIME, $_[0], $time) == 0 or die "clock_gettime: $!";
  my ($seconds, $nanoseconds) = unpack "qq", $time; return $seconds + $nanoseconds / 1e9 }

# Whoever reads it sees a whole line.
sub put { my ($name, $value) = @_; open my $file, ">", "$directory/$name.new" or die $!; print $file $value; close $file;
  rename "$directory/$name.new", "$directory/$name" or die $! }
sub get { open my $file, "<", "$directory/$_[0]" or return $_[1]; my $value = <$file>; return defined $value ? $value : $_[1] }

sub process(&) { my $work = shift; my $pid = fork; die "fork: $!" unless defined $pid; return $pid if $pid; $work->(); exit 1 }

sub memory {
  my $pages = $mebibytes * 2**20 / $PAGE;
  my $contents = sub { my ($round, $page) = @_; pack("QQ", $round, $page) x ($PAGE / 16) };
  my $errors = 0;
  my $memory = join "", map { $contents->(0, $_) } 0 .. $pages - 1;
  for (my $round = 1; ; $round++) {
    for my $page (0 .. $pages - 1) {
      $errors++ if substr($memory, $page * $PAGE, $PAGE) ne $contents->($round - 1, $page);
      substr($memory, $page * $PAGE, $PAGE, $contents->($round, $page));
    }
    put("memory", "$round $errors");
  }
}

sub ticker {
  my ($ticks, $backward, $longest) = (0, 0, 0);
  my ($real, $monotonic) = (clock($REALTIME), clock($MONOTONIC));
  for (;;) {
    select undef, undef, undef, $TICK_S;
    my ($real_now, $monotonic_now) = (clock($REALTIME), clock($MONOTONIC));
    $ticks++;
    $backward++ if $real_now < $real || $monotonic_now < $monotonic;
    my $gap = $monotonic_now - $monotonic;
    # Since somebody last asked.
    $longest = 0 if unlink "$directory/asked";
    $longest = $gap if $gap > $longest;
    ($real, $monotonic) = ($real_now, $monotonic_now);
    put("ticker", "$ticks $backward $longest");
  }
}

sub verify_disk {
  my ($rounds, $failed) = (0, 0);
  for (;;) {
    put("disk", "$rounds $failed");
    my $status = system qq(fio --name=load --filename=$disk --size=1M --bs=4k --rw=randwrite --direct=1 --ioengine=psync --verify=crc32c --verify_fatal=1 >$directory/fio 2>&1);
    $status == 0 ? $rounds++ : $failed++;
    sleep 1 if $status;
  }
}

sub warnings { return scalar(my @lines = `dmesg --level=emerg,alert,crit,err,warn`) }

my $warnings_before = warnings();
process { memory() };
process { ticker() };
process { verify_disk() };
my $processors = `nproc`;
process { setpriority 0, 0, 19; 1 while 1 } for 1 .. $processors;

my $server = IO::Socket::INET->new(LocalPort => 7000, Listen => 5, ReuseAddr => 1) or die "port 7000: $!";
chomp(my $boot = do { local @ARGV = "/proc/sys/kernel/random/boot_id"; <> });
while (my $client = $server->accept) {
  my ($rounds, $errors) = split " ", get("memory", "0 0");
  my ($ticks, $backward, $longest) = split " ", get("ticker", "0 0 0");
  my ($verified, $failed) = split " ", get("disk", "0 0");
  put("asked", "");
  my $ended = waitpid(-1, WNOHANG) > 0 ? 1 : 0;
  print $client sprintf qq({"boot":"%s","memoryRounds":%d,"memoryErrors":%d,"ticks":%d,"backward":%d,"longestGapMs":%d,"diskRounds":%d,"diskErrors":%d,"warnings":%d,"ended":%d}\n),
    $boot, $rounds, $errors, $ticks, $backward, $longest * 1000, $verified, $failed, warnings() - $warnings_before, $ended;
  close $client;
}
