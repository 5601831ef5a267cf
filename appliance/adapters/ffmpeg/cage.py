"""The process that starts programs: each in a fork of itself that takes rights away from itself and then becomes it.

Run by a bare interpreter (`python -I -S`, no package of ours but this file) with one thread, because Python code must
not run between fork and exec of a process with threads, and a host need not have a C compiler. It serves until whoever
asks is gone (`starter.Starter`), so an interpreter is started once and not for each program.

Layers, each as far as the kernel has it: death signal, rlimits, capabilities, no_new_privs, Landlock (landlock(7)),
seccomp (seccomp(2)). A layer that the kernel lacks is left out, unless it is required; one that fails ends the start.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import select
import socket
import struct
import sys

#: The exit status when the program could not be started as it should.
REFUSED = 126
#: The same where the host was short of something (sysexits: EX_TEMPFAIL).
LATER, SHORTAGES = 75, {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
#: What a fork says when nothing is left to do but to become the program; FAILED follows if it fails.
READY, FAILED = b"1", b"0"
#: Of a request: how long its text is. With it come the descriptors of the program's stdout and stderr.
HEAD = struct.Struct("=I")
#: The answer, once the program has ended: whether it had been started at all, its exit status (negative: the signal),
#: its CPU seconds and its largest RSS in kB.
ENDED = struct.Struct("=?idq")
#: Descriptors that one program may hold; a chunk of six rungs takes about twenty.
MAX_FILES = 256

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 1, 22, 38, 39
SIGKILL, SIGPIPE, SIGXFSZ, SIG_DFL = 9, 13, 25, 0

libc = ctypes.CDLL(None, use_errno=True)


# ---- seccomp ---------------------------------------------------------------------------------------------------------

#: machine → (AUDIT_ARCH_*, number of socket(2)); the column of NUMBERS is its place here.
MACHINES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
#: Calls that a decoder never needs, as name:x86_64:aarch64. They answer EPERM.
NUMBERS = """
    socket:41:198 socketpair:53:199 connect:42:203 bind:49:200 listen:50:201 accept:43:202 accept4:288:242
    sendto:44:206 sendmsg:46:211 sendmmsg:307:269

    fork:57:- vfork:58:- execveat:322:281 ptrace:101:117 process_vm_readv:310:270 process_vm_writev:311:271
    process_madvise:440:440 process_mrelease:448:448 pidfd_open:434:434 pidfd_getfd:438:438
    pidfd_send_signal:424:424 kcmp:312:272 tkill:200:130 rt_sigqueueinfo:129:138 rt_tgsigqueueinfo:297:240
    migrate_pages:256:238 move_pages:279:239 setpriority:141:140 ioprio_set:251:30 sched_setattr:314:274
    sched_setparam:142:118 sched_setscheduler:144:119 sched_setaffinity:203:122 setpgid:109:154 setsid:112:157

    bpf:321:280 keyctl:250:219 add_key:248:217 request_key:249:218 io_uring_setup:425:425 io_uring_enter:426:426
    io_uring_register:427:427 userfaultfd:323:282 perf_event_open:298:241 fanotify_init:300:262
    name_to_handle_at:303:264 open_by_handle_at:304:265 memfd_create:319:279 memfd_secret:447:447
    personality:135:92 syslog:103:116 acct:163:89 quotactl:179:60 quotactl_fd:443:443 lookup_dcookie:212:18
    init_module:175:105 finit_module:313:273 delete_module:176:106 kexec_load:246:104 kexec_file_load:320:294
    reboot:169:142 swapon:167:224 swapoff:168:225 settimeofday:164:170 adjtimex:159:171 clock_settime:227:112
    clock_adjtime:305:266 sethostname:170:161 setdomainname:171:162 iopl:172:- ioperm:173:- modify_ldt:154:-
    vhangup:153:58 uselib:134:- ustat:136:- sysfs:139:- _sysctl:156:- nfsservctl:180:42

    mount:165:40 umount2:166:39 pivot_root:155:41 chroot:161:51 setns:308:268 unshare:272:97 mount_setattr:442:442
    move_mount:429:429 open_tree:428:428 fsopen:430:430 fsconfig:431:431 fsmount:432:432 fspick:433:433

    shmget:29:194 shmat:30:196 shmctl:31:195 semget:64:190 semop:65:193 semtimedop:220:192 semctl:66:191
    msgget:68:186 msgsnd:69:189 msgrcv:70:188 msgctl:71:187 mq_open:240:180 mq_unlink:241:181

    setuid:105:146 setgid:106:144 setreuid:113:145 setregid:114:143 setresuid:117:147 setresgid:119:149
    setfsuid:122:151 setfsgid:123:152 setgroups:116:159 capset:126:91

    chmod:90:- fchmod:91:52 fchmodat:268:53 chown:92:- fchown:93:55 lchown:94:- fchownat:260:54 setxattr:188:5
    lsetxattr:189:6 fsetxattr:190:7 removexattr:197:14 lremovexattr:198:15 fremovexattr:199:16 utime:132:-
    utimes:235:- utimensat:280:88 futimesat:261:- mknod:133:- mknodat:259:33 symlink:88:- symlinkat:266:36
"""
#: Allowed for threads only (`clone`) or for the program's own PID (or 0) as first argument.
CONDITIONAL = "clone:56:220 kill:62:129 tgkill:234:131 prlimit64:302:261"
#: Its flags lie in memory where no filter sees them; on ENOSYS the C libraries fall back to clone.
CLONE3 = 435
CLONE_THREAD = 0x10000
#: Calls above it came after this table was written, and x32's calls lie far above: they are not there.
LAST_KNOWN = 451

LOAD, EQUAL, GREATER, SET, RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
ALLOW, KILL = 0x7FFF0000, 0x80000000
DENY, ABSENT = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
#: Places in struct seccomp_data; both machines are little-endian, so an argument's low half comes first.
NR, ARCH, ARG0_LOW = 0, 4, 16

Instruction = tuple[int, int, int, int]


def numbers(table: str, machine: str) -> dict[str, int]:
    """Name → number, of those that the machine has."""
    column = 1 + list(MACHINES).index(machine)
    rows = [word.split(":") for word in table.split()]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}


def instructions(machine: str, pid: int) -> list[Instruction]:
    """The filter as (code, jump if true, jump if false, constant)."""
    some = numbers(CONDITIONAL, machine)
    program = [
        *[(LOAD, 0, 0, ARCH), (EQUAL, 1, 0, MACHINES[machine][0]), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NR)],
        *[(GREATER, 0, 1, LAST_KNOWN), (RETURN, 0, 0, ABSENT), (EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, ABSENT)],
        *[(EQUAL, 0, 4, some["clone"]), (LOAD, 0, 0, ARG0_LOW)],
        *[(SET, 0, 1, CLONE_THREAD), (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, DENY)],
    ]
    for name in ("kill", "tgkill", "prlimit64"):
        # 0 is the own process for prlimit64 and the own group, which is nobody else, for kill
        own = [(EQUAL, 1, 0, pid), (EQUAL, 0, 1, 0), (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, DENY)]
        program += [(EQUAL, 0, 5, some[name]), (LOAD, 0, 0, ARG0_LOW), *own]
    for number in numbers(NUMBERS, machine).values():
        program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, DENY)]
    return [*program, (RETURN, 0, 0, ALLOW)]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def seccomp() -> bool:
    """No sockets, no new processes, nothing of the kernel's rarer doors. False: the kernel or machine has it not."""
    machine = os.uname().machine
    if machine not in MACHINES or sys.maxsize < 2**32:
        return False
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions(machine, os.getpid()))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(buffer))
    try:
        _prctl(PR_SET_SECCOMP, 2, ctypes.addressof(program))
    except OSError as error:
        if error.errno == errno.EINVAL:  # no CONFIG_SECCOMP_FILTER
            return False
        raise
    return True


# ---- Landlock --------------------------------------------------------------------------------------------------------

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_DIR, MAKE_REG, REFER, TRUNCATE = 1 << 7, 1 << 8, 1 << 13, 1 << 14
READ = EXECUTE | READ_FILE | READ_DIR
#: No links, sockets, pipes or devices, and nothing of what was written can be executed.
WRITE = READ_FILE | READ_DIR | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
#: What the system's loader, libraries and C library read.
SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/sys/devices/system/cpu")
DEVICES = {"/dev/null": READ_FILE | WRITE_FILE, "/dev/zero": READ_FILE, "/dev/urandom": READ_FILE}


def landlock(readable: list[str]) -> bool:
    """The working directory to write in, what is `readable` and the system's libraries to read, nothing else.

    TCP, and signals and abstract sockets to others, are forbidden as well, where the kernel's version knows them.
    """
    version = int(libc.syscall(_long(CREATE_RULESET), None, _long(0), _long(1)))
    if version < 1:
        return False
    files = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    attributes = struct.pack("=QQQ", files, 0b11, 0b11)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = _syscall(CREATE_RULESET, attributes, len(attributes), 0)
    rights = {**dict.fromkeys([*SYSTEM, *readable], READ), **DEVICES, ".": WRITE}
    for path, wanted in rights.items():
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        is_directory = os.fstat(descriptor).st_mode & 0o170000 == 0o040000
        allowed = wanted & files & (-1 if is_directory else OF_FILES)
        _syscall(ADD_RULE, ruleset, 1, struct.pack("=Qi", allowed, descriptor), 0)
        os.close(descriptor)
    _syscall(RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return True


# ---- the rest --------------------------------------------------------------------------------------------------------


def die_with(parent: int) -> None:
    """SIGKILL when the *thread* that started us ends (F31); it may have ended before we asked."""
    _prctl(PR_SET_PDEATHSIG, SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), SIGKILL)


def limit(memory_bytes: int, file_bytes: int) -> None:
    """Never above what the process has already. Not RLIMIT_NPROC: it counts the account, not the process."""
    limits = {
        resource.RLIMIT_AS: memory_bytes,  # an 875 kB picture can ask for gigabytes (F46)
        resource.RLIMIT_CORE: 0,  # a core dump would fill the scratch disk with somebody's lecture
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_NOFILE: MAX_FILES,
    }
    for name, wanted in limits.items():
        hard = resource.getrlimit(name)[1]
        bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(name, (bound, bound))


def drop_capabilities() -> None:
    """Of root's rights only the one to read an upload that belongs to somebody else (capset(2), version 3)."""
    data = (ctypes.c_uint32 * 6)()
    header = struct.pack("=Ii", 0x20080522, 0)
    if libc.capget(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    dac_override = 1 << 1
    kept = data[1] & dac_override
    if libc.capset(header, (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def confine(layers: list[str], required: bool, readable: list[str]) -> None:
    """Take the rights away. Raises PermissionError with the sentence when a required layer is missing."""
    drop_capabilities()
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    have = {"landlock": "landlock" in layers and landlock(readable)}
    have["seccomp"] = "seccomp" in layers and seccomp()
    if required and not all(have.values()):
        missing = " and ".join(name for name, on in have.items() if not on)
        raise PermissionError(f"{missing} is missing and sandbox.required is true")


def tries(canary: str, outside: str) -> dict[str, bool]:
    """Layer → whether it really holds: what the caged process itself can still do."""
    number = MACHINES.get(os.uname().machine, (0, -1))[1]
    families = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK
    sockets = [libc.syscall(*map(_long, (number, family, 1, 0))) for family in families]
    return {
        "seccomp": max(sockets) < 0 and ctypes.get_errno() == errno.EPERM,
        "landlock": _refused(canary, os.O_RDONLY) and _refused(outside, os.O_WRONLY | os.O_CREAT),
        "no_new_privs": int(libc.prctl(PR_GET_NO_NEW_PRIVS, *map(_long, (0, 0, 0, 0)))) == 1,
        "rlimits": resource.getrlimit(resource.RLIMIT_CORE) == (0, 0),
    }


def _refused(path: str, flags: int) -> bool:
    try:
        os.close(os.open(path, flags, 0o600))
    except PermissionError:
        return True
    return False


def _long(value: int) -> ctypes.c_long:
    return ctypes.c_long(value)


def _prctl(option: int, value: int, more: int = 0) -> None:
    if libc.prctl(option, _long(value), _long(more), _long(0), _long(0)) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}: {os.strerror(ctypes.get_errno())}")


def _syscall(number: int, *arguments: int | bytes) -> int:
    given = [_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result = int(libc.syscall(_long(number), *given))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}: {os.strerror(ctypes.get_errno())}")
    return result


def become(ready: int, parent: int, descriptors: list[int], arguments: list[str]) -> None:
    """`directory memory_bytes file_bytes layers required readable… -- command…`; the command `--try` is ours."""
    end = arguments.index("--")
    command = arguments[end + 1 :]
    try:
        for number, given in enumerate(descriptors, start=1):
            os.dup2(given, number)
            os.set_inheritable(given, False)
        os.setsid()
        os.chdir(arguments[0])
        die_with(parent)
        for number in (SIGPIPE, SIGXFSZ):  # Python ignores them, and what is ignored stays so in the program
            libc.signal(number, ctypes.c_void_p(SIG_DFL))
        confine(arguments[3].split(","), arguments[4] == "required", arguments[5:end])
        limit(*map(int, arguments[1:3]))
        os.write(ready, READY)
        if command[0] == "--try":
            os.write(1, " ".join(f"{layer}={int(holds)}" for layer, holds in tries(*command[1:]).items()).encode())
            os._exit(0)
        os.execv(command[0], command)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the program must not run outside its cage
        try:
            os.write(ready, FAILED)
            os.write(2, f"sandbox: {command[0]}: {error}\n".encode())
        finally:
            os._exit(REFUSED)


def serve(descriptor: int) -> None:
    """Start what is asked for, one program after another, and say how each ended; until nobody asks any more."""
    with socket.socket(fileno=descriptor) as asker:
        asker.set_inheritable(False)
        try:
            while asked := _asked(asker):
                asker.sendall(_run(asker, *asked))
        except ConnectionError:  # whoever asked is gone
            return


def _asked(asker: socket.socket) -> tuple[list[str], list[int]] | None:
    """What `become` is told, and the descriptors of stdout and stderr; None when nobody asks any more."""
    head, descriptors, _, _ = socket.recv_fds(asker, HEAD.size, 2)
    if not head:
        return None
    (length,) = HEAD.unpack(head)
    text = asker.recv(length, socket.MSG_WAITALL)
    return (text.decode(errors="surrogateescape").split("\0"), descriptors) if len(text) == length else None


def _run(asker: socket.socket, arguments: list[str], descriptors: list[int]) -> bytes:
    """Start a program and wait for its end; returns the answer."""
    try:
        pid, program, said = _fork(arguments, descriptors)
    except OSError as error:
        os.write(descriptors[1], f"sandbox: {error}\n".encode())
        return ENDED.pack(False, LATER if error.errno in SHORTAGES else REFUSED, 0.0, 0)
    finally:
        for given in descriptors:
            os.close(given)
    status, usage = _wait(pid, program, asker)
    with os.fdopen(said, "rb") as words:
        started = words.read() == READY
    return ENDED.pack(started, status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)


def _fork(arguments: list[str], descriptors: list[int]) -> tuple[int, int, int]:
    """The program's pid, a descriptor of its end (Linux 5.3), and one from which READY comes. Raises OSError."""
    said, ready = os.pipe()
    try:
        parent, pid = os.getpid(), os.fork()
        if pid == 0:
            become(ready, parent, descriptors, arguments)
        try:
            return pid, os.pidfd_open(pid), said
        except OSError:
            os.kill(pid, SIGKILL)
            os.waitpid(pid, 0)
            raise
    except OSError:
        os.close(said)
        raise
    finally:
        os.close(ready)


def _wait(pid: int, program: int, asker: socket.socket) -> tuple[int, resource.struct_rusage]:
    """To the program's end; it and its group are killed when nobody asks any more."""
    poll = select.poll()
    for descriptor in (program, asker.fileno()):
        poll.register(descriptor, select.POLLIN)
    if program not in dict(poll.poll()):
        try:
            os.killpg(pid, SIGKILL)
        except ProcessLookupError:  # it has not made its group yet
            os.kill(pid, SIGKILL)
    os.close(program)
    _, status, usage = os.wait4(pid, 0)
    return os.waitstatus_to_exitcode(status), usage
