//! Small ISO 9660 media with a label: seeds for cloud-init and answers for installers.
//!
//! Plain level 2 names in one folder: Linux shows them in lower case. ECMA-119 numbers its fields from byte 1.

use std::io;

/// The bytes of a sector.
const SECTOR: usize = 2048;
/// Where the list of descriptors begins, the root folder is, and the files begin, in sectors.
const DESCRIPTORS: usize = 16;
const PATHS_LITTLE: usize = 18;
const PATHS_BIG: usize = 19;
const ROOT: usize = 20;
const FILES: usize = 21;
/// The most that all files may have, in bytes.
pub(super) const ISO_BYTES_MAX: usize = 64 << 20;

/// Makes a medium with these files.
pub(super) fn medium(label: &str, files: &[(String, Vec<u8>)]) -> io::Result<Vec<u8>> {
    let bytes: usize = files.iter().map(|(_, content)| content.len()).sum();
    if bytes > ISO_BYTES_MAX {
        let message = format!("the files of a medium have {bytes} bytes, at most {ISO_BYTES_MAX} fit");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    let mut sorted: Vec<_> =
        files.iter().map(|(name, content)| (name.to_ascii_uppercase(), content)).collect();
    sorted.sort();
    let mut folder = Vec::new();
    for own in [0_u8, 1] {
        folder.extend(record(&[own], ROOT, SECTOR, true));
    }
    let mut at = FILES;
    let mut contents = Vec::new();
    for (name, content) in sorted {
        folder.extend(record(format!("{name};1").as_bytes(), at, content.len(), false));
        contents.extend_from_slice(content);
        contents.resize(contents.len().next_multiple_of(SECTOR), 0);
        at = FILES + contents.len() / SECTOR;
    }
    if folder.len() > SECTOR {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many files for a medium"));
    }
    let mut iso = vec![0; FILES * SECTOR];
    let mut put = |sector: usize, bytes: &[u8]| {
        iso[sector * SECTOR..sector * SECTOR + bytes.len()].copy_from_slice(bytes);
    };
    put(DESCRIPTORS, &volume(label, at));
    put(DESCRIPTORS + 1, b"\xffCD001\x01");
    let root = u32::try_from(ROOT).unwrap_or(0);
    put(PATHS_LITTLE, &[&[1, 0][..], &root.to_le_bytes(), &[1, 0, 0, 0]].concat());
    put(PATHS_BIG, &[&[1, 0][..], &root.to_be_bytes(), &[0, 1, 0, 0]].concat());
    put(ROOT, &folder);
    iso.extend(contents);
    Ok(iso)
}

/// The primary volume descriptor.
fn volume(label: &str, sectors: usize) -> Vec<u8> {
    let mut bytes = vec![0; SECTOR];
    let mut put = |at: usize, field: &[u8]| bytes[at - 1..at - 1 + field.len()].copy_from_slice(field);
    put(1, b"\x01CD001\x01");
    put(9, &[b' '; 32]);
    put(41, format!("{label:<32.32}").as_bytes());
    put(81, &both32(sectors));
    put(121, &both16(1));
    put(125, &both16(1));
    put(129, &both16(SECTOR));
    // The path table: one entry of ten bytes.
    put(133, &both32(10));
    put(141, &(PATHS_LITTLE as u32).to_le_bytes());
    put(149, &(PATHS_BIG as u32).to_be_bytes());
    put(157, &record(&[0], ROOT, SECTOR, true));
    put(191, &[b' '; 623]);
    for date in [814, 831, 848, 865] {
        put(date, b"0000000000000000\0");
    }
    put(882, &[1]);
    bytes
}

/// An entry of a folder.
fn record(name: &[u8], sector: usize, bytes: usize, folder: bool) -> Vec<u8> {
    let length = (33 + name.len()).next_multiple_of(2);
    let mut record = vec![u8::try_from(length).unwrap_or(u8::MAX), 0];
    record.extend(both32(sector));
    record.extend(both32(bytes));
    // 1 January 2000: media of the same content are the same.
    record.extend([100, 1, 1, 0, 0, 0, 0]);
    record.extend([if folder { 2 } else { 0 }, 0, 0]);
    record.extend(both16(1));
    record.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    record.extend(name);
    record.resize(length, 0);
    record
}

fn both32(value: usize) -> [u8; 8] {
    let value = u32::try_from(value).unwrap_or(u32::MAX);
    let mut field = [0; 8];
    field[..4].copy_from_slice(&value.to_le_bytes());
    field[4..].copy_from_slice(&value.to_be_bytes());
    field
}

fn both16(value: usize) -> [u8; 4] {
    let value = u16::try_from(value).unwrap_or(u16::MAX);
    let mut field = [0; 4];
    field[..2].copy_from_slice(&value.to_le_bytes());
    field[2..].copy_from_slice(&value.to_be_bytes());
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_are_read_by_others() {
        let files = [
            ("user-data".to_owned(), b"#cloud-config\n".to_vec()),
            ("meta-data".to_owned(), vec![b'x'; 5000]),
            ("empty".to_owned(), Vec::new()),
        ];
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("seed.iso");
        std::fs::write(&path, medium("cidata", &files).unwrap()).unwrap();
        let run = |args: &[&str]| {
            let mut command = std::process::Command::new("xorriso");
            let output = command.args(["-indev"]).arg(&path).args(args).output().unwrap();
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
        };
        let shown = run(&["-lsl", "/"]);
        assert!(shown.contains("Volume id    : 'cidata'"), "{shown}");
        let to = temp.path().join("out");
        let shown = run(&["-osirrox", "on", "-extract", "/", to.to_str().unwrap()]);
        let read = |name: &str| std::fs::read(to.join(name)).unwrap_or_else(|_| panic!("{name}: {shown}"));
        assert_eq!(read("USER-DATA"), b"#cloud-config\n");
        assert_eq!(read("META-DATA"), vec![b'x'; 5000]);
        assert_eq!(read("EMPTY"), b"");
        assert!(medium("x", &[("big".to_owned(), vec![0; ISO_BYTES_MAX + 1])]).is_err());
    }
}
