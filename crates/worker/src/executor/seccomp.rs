//! The filter that keeps what runs in a sandbox from making user namespaces: in one of its own anybody is root to much
//! of the kernel that nobody else reaches.
//!
//! It is a program of classic BPF for `bwrap --seccomp`. `clone3` hides its flags from filters: it is answered as if the
//! kernel were too old for it, and C libraries go back to `clone`.

/// Makes a process without a new user namespace only.
const CLONE_NEWUSER: u32 = 0x1000_0000;
/// System calls from here on are those of x32, or none.
const X32: u32 = 0x4000_0000;
/// Where the numbers stand in what filters are given, in bytes; of the first argument the lower half.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const JUMP_IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const REFUSE: u32 = 0x0005_0000 + nix::libc::EPERM as u32;
const UNKNOWN: u32 = 0x0005_0000 + nix::libc::ENOSYS as u32;

/// How one kind of programs calls the kernel.
#[derive(Debug, Clone, Copy)]
struct Abi {
    /// Its number as filters are given it (`AUDIT_ARCH_…`).
    arch: u32,
    clone: u32,
    unshare: u32,
    clone3: u32,
}

/// The kinds of programs that a processor of this architecture runs; none where they are not known here.
fn abis(arch: &str) -> &'static [Abi] {
    match arch {
        "x86_64" => &[
            Abi { arch: 0xc000_003e, clone: 56, unshare: 272, clone3: 435 },
            Abi { arch: 0x4000_0003, clone: 120, unshare: 310, clone3: 435 },
        ],
        "aarch64" => &[
            Abi { arch: 0xc000_00b7, clone: 220, unshare: 97, clone3: 435 },
            Abi { arch: 0x4000_0028, clone: 120, unshare: 337, clone3: 435 },
        ],
        "riscv64" => &[Abi { arch: 0xc000_00f3, clone: 220, unshare: 97, clone3: 435 }],
        _ => &[],
    }
}

/// An instruction: the operation, how many to leap over if it is so and if not, and its number.
type Instruction = (u16, u8, u8, u32);

/// How long the part of an [`Abi`] is.
const PART: u8 = 10;

const fn part(abi: Abi) -> [Instruction; PART as usize] {
    [
        (LOAD, 0, 0, NUMBER),
        (JUMP_IF_AT_LEAST, 7, 0, X32),
        (JUMP_IF_EQUAL, 6, 0, abi.clone3),
        (JUMP_IF_EQUAL, 1, 0, abi.unshare),
        (JUMP_IF_EQUAL, 0, 2, abi.clone),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (JUMP_IF_ANY_BIT, 1, 0, CLONE_NEWUSER),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, UNKNOWN),
    ]
}

/// The filter for an architecture (all that are known here store the lower half of a number first); nothing where it is
/// not known.
pub(super) fn filter(arch: &str) -> Option<Vec<u8>> {
    let abis = abis(arch);
    let count = u8::try_from(abis.len()).ok().filter(|count| *count > 0)?;
    let mut program = vec![(LOAD, 0, 0, ARCH)];
    program.extend(
        abis.iter().zip(0..).map(|(abi, nth)| (JUMP_IF_EQUAL, count + nth * (PART - 1), 0, abi.arch)),
    );
    program.push((RETURN, 0, 0, UNKNOWN));
    program.extend(abis.iter().flat_map(|abi| part(*abi)));
    let bytes = program.into_iter().flat_map(|(code, so, not, number)| {
        let (code, number) = (code.to_le_bytes(), number.to_le_bytes());
        [code[0], code[1], so, not, number[0], number[1], number[2], number[3]]
    });
    Some(bytes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would make of a call.
    fn run(program: &[u8], arch: u32, number: u32, first: u64) -> u32 {
        let instruction = |at: usize| {
            let bytes: [u8; 8] = program[at * 8..at * 8 + 8].try_into().unwrap();
            let number = u32::from_le_bytes(bytes[4..].try_into().unwrap());
            (u16::from_le_bytes([bytes[0], bytes[1]]), usize::from(bytes[2]), usize::from(bytes[3]), number)
        };
        let (mut at, mut loaded) = (0, 0);
        loop {
            let (code, so, not, with) = instruction(at);
            let is_so = match code {
                LOAD => {
                    loaded = match with {
                        NUMBER => number,
                        ARCH => arch,
                        FIRST_ARGUMENT => u32::try_from(first & 0xffff_ffff).unwrap(),
                        other => panic!("nothing stands at {other}"),
                    };
                    false
                }
                JUMP_IF_EQUAL => loaded == with,
                JUMP_IF_AT_LEAST => loaded >= with,
                JUMP_IF_ANY_BIT => loaded & with != 0,
                RETURN => return with,
                other => panic!("no operation {other}"),
            };
            at += 1 + if is_so { so } else { not };
        }
    }

    #[test]
    fn only_new_user_namespaces_are_refused() {
        let (user, others) = (u64::from(CLONE_NEWUSER), 0x6c02_0000_u64);
        for arch in ["x86_64", "aarch64", "riscv64"] {
            let program = filter(arch).unwrap();
            for abi in abis(arch) {
                let check = |number: u32, first: u64, expect: u32| {
                    assert_eq!(run(&program, abi.arch, number, first), expect, "{arch} {number} {first:x}");
                };
                check(abi.unshare, user, REFUSE);
                check(abi.unshare, user | others, REFUSE);
                check(abi.unshare, others, ALLOW);
                check(abi.clone, user | 17, REFUSE);
                check(abi.clone, 17, ALLOW);
                check(abi.clone3, 0, UNKNOWN);
                check(abi.clone3 + 1, user, ALLOW);
                check(0, user, ALLOW);
                check(X32 + abi.clone, user, UNKNOWN);
            }
            assert_eq!(run(&program, 1, 0, 0), UNKNOWN, "another kind of programs");
        }
        assert_eq!(filter("s390x"), None);
    }
}
