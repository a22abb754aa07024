//! What a dynamic linker will do with a file, read from the file.
//!
//! SPEC: System V ABI, chapters 4 and 5 (ELF header, program header, dynamic section, relocation), and its
//! AMD64 and `AArch64` supplements. Only 64-bit little-endian files are understood: those of the
//! machines that Slipway runs on.

use std::ops::Range;

/// Most program headers that are looked at; real files have about a dozen.
const SEGMENTS_MAX: usize = 64;

/// Longest dynamic section that is read.
const DYNAMIC_LEN_MAX: u64 = 64 << 10;

/// Longest table that is read or fetched: the relocations of the largest libraries take some 10 MB.
const TABLE_LEN_MAX: u64 = 64 << 20;

/// Length taken for a table whose length no header gives and that nothing follows.
const TABLE_LEN_UNKNOWN: u64 = 256 << 10;

/// Most libraries that one file may need.
const NEEDED_MAX: usize = 256;

/// Length of an entry of a relocation table with addends (`Elf64_Rela`).
const RELA_LEN: usize = 24;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;

const DT_NEEDED: u64 = 1;
const DT_PLTRELSZ: u64 = 2;
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
const DT_STRSZ: u64 = 10;
const DT_JMPREL: u64 = 23;
const DT_INIT_ARRAY: u64 = 25;
const DT_INIT_ARRAYSZ: u64 = 27;
const DT_GNU_HASH: u64 = 0x6fff_fef5;
const DT_VERSYM: u64 = 0x6fff_fff0;
const DT_VERNEED: u64 = 0x6fff_fffe;

/// A part of the file that is mapped.
#[derive(Debug, Clone)]
struct Segment {
    address: u64,
    offset: u64,
    file_len: u64,
}

/// A library or program, as far as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Elf {
    segments: Vec<Segment>,
    dynamic: Option<Range<u64>>,
    entries: Vec<(u64, u64)>,
    initialisers: Range<u64>,
}

/// A place of the file that will be read. The number is an offset in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The linker writes to it.
    Relocated(u64),
    /// A function that is called before the program begins.
    Initialiser(u64),
}

impl Elf {
    /// Understands the headers. `None`: this is no file of that kind.
    pub(crate) fn parse(header: &[u8]) -> Option<Self> {
        let is_ours = header.starts_with(b"\x7fELF\x02\x01");
        let table = usize::try_from(u64_at(header, 32)?).ok()?;
        let (entry_len, count) = (
            usize::from(u16_at(header, 54)?),
            usize::from(u16_at(header, 56)?),
        );
        if !is_ours || entry_len < 56 {
            return None;
        }
        let mut elf = Self {
            segments: Vec::new(),
            dynamic: None,
            entries: Vec::new(),
            initialisers: 0..0,
        };
        for index in 0..count.min(SEGMENTS_MAX) {
            let entry = header.get(table.checked_add(index * entry_len)?..)?;
            let (offset, address, len) =
                (u64_at(entry, 8)?, u64_at(entry, 16)?, u64_at(entry, 32)?);
            match u32_at(entry, 0)? {
                PT_LOAD => elf.segments.push(Segment {
                    address,
                    offset,
                    file_len: len,
                }),
                PT_DYNAMIC => {
                    elf.dynamic = Some(offset..offset.checked_add(len.min(DYNAMIC_LEN_MAX))?);
                }
                _ => {}
            }
        }
        Some(elf)
    }

    /// Where the dynamic section is. `None`: the file is linked statically.
    pub(crate) fn dynamic(&self) -> Option<Range<u64>> {
        self.dynamic.clone()
    }

    /// Understands the dynamic section.
    pub(crate) fn parse_dynamic(&mut self, section: &[u8]) -> Option<()> {
        let entry = |bytes: &[u8]| Some((u64_at(bytes, 0)?, u64_at(bytes, 8)?));
        self.entries = section
            .chunks_exact(16)
            .map_while(entry)
            .take_while(|(tag, _)| *tag != 0)
            .collect();
        if let (Some(start), Some(len)) = (self.value(DT_INIT_ARRAY), self.value(DT_INIT_ARRAYSZ)) {
            self.initialisers = start..start.checked_add(len)?;
        }
        (!self.entries.is_empty()).then_some(())
    }

    /// The string table: names of needed libraries and of all symbols.
    pub(crate) fn strings(&self) -> Option<Range<u64>> {
        self.table(self.value(DT_STRTAB)?, self.value(DT_STRSZ)?)
    }

    /// The tables that the linker reads: symbols, strings, hashes, versions, relocations.
    pub(crate) fn tables(&self) -> Vec<Range<u64>> {
        let mut starts: Vec<u64> = [DT_HASH, DT_GNU_HASH, DT_SYMTAB, DT_VERSYM, DT_VERNEED]
            .into_iter()
            .filter_map(|tag| self.value(tag))
            .collect();
        let mut tables: Vec<_> = self
            .strings()
            .into_iter()
            .chain(self.relocations())
            .collect();
        let sized = [DT_STRTAB, DT_RELA, DT_JMPREL]
            .into_iter()
            .filter_map(|tag| self.value(tag));
        let mut ends: Vec<u64> = starts.iter().copied().chain(sized).collect();
        starts.sort_unstable();
        ends.sort_unstable();
        // Where no length is given, a table ends where another one begins.
        let unsized_tables = starts.iter().filter_map(|start| {
            let end = ends.iter().find(|end| *end > start);
            let len = end.map_or(TABLE_LEN_UNKNOWN, |end| end - start);
            self.table(*start, len)
        });
        tables.extend(unsized_tables);
        tables.sort_unstable_by_key(|table| table.start);
        tables
    }

    /// The relocation tables.
    pub(crate) fn relocations(&self) -> Vec<Range<u64>> {
        [(DT_RELA, DT_RELASZ), (DT_JMPREL, DT_PLTRELSZ)]
            .into_iter()
            .filter_map(|(start, len)| self.table(self.value(start)?, self.value(len)?))
            .collect()
    }

    /// Names of the libraries that this one needs, out of the bytes of [`Self::strings`].
    pub(crate) fn needed<'a>(&self, strings: &'a [u8]) -> Vec<&'a [u8]> {
        let name = |(tag, offset): &(u64, u64)| {
            let from = strings
                .get(usize::try_from(*offset).ok()?..)
                .filter(|_| *tag == DT_NEEDED)?;
            from.split(|byte| *byte == 0)
                .next()
                .filter(|name| !name.is_empty())
        };
        self.entries
            .iter()
            .filter_map(name)
            .take(NEEDED_MAX)
            .collect()
    }

    /// Visits each place that a relocation of `table` names: where it writes, and, for a slot of the
    /// initialiser array, which function it will call.
    pub(crate) fn visit_relocations(&self, table: &[u8], visit: &mut dyn FnMut(Place)) {
        for entry in table.chunks_exact(RELA_LEN) {
            let (Some(target), Some(addend)) = (u64_at(entry, 0), u64_at(entry, 16)) else {
                return;
            };
            if let Some(offset) = self.offset_of(target) {
                visit(Place::Relocated(offset));
            }
            if self.initialisers.contains(&target)
                && let Some(offset) = self.offset_of(addend)
            {
                visit(Place::Initialiser(offset));
            }
        }
    }

    fn value(&self, wanted: u64) -> Option<u64> {
        self.entries
            .iter()
            .find(|(tag, _)| *tag == wanted)
            .map(|(_, value)| *value)
    }

    fn table(&self, address: u64, len: u64) -> Option<Range<u64>> {
        let offset = self.offset_of(address)?;
        let end = offset.checked_add(len.min(TABLE_LEN_MAX))?;
        (len > 0).then_some(offset..end)
    }

    fn offset_of(&self, address: u64) -> Option<u64> {
        let holds = |segment: &&Segment| {
            address
                .checked_sub(segment.address)
                .is_some_and(|within| within < segment.file_len)
        };
        let segment = self.segments.iter().find(holds)?;
        segment.offset.checked_add(address - segment.address)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This test's own program is a library with everything in it.
    fn own_program() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    fn part(bytes: &[u8], range: Range<u64>) -> &[u8] {
        let clamp = |offset: u64| usize::try_from(offset).unwrap().min(bytes.len());
        &bytes[clamp(range.start)..clamp(range.end)]
    }

    #[test]
    fn the_libraries_of_a_real_program_are_found() {
        let bytes = own_program();
        let mut elf = Elf::parse(&bytes[..4096]).unwrap();
        elf.parse_dynamic(part(&bytes, elf.dynamic().unwrap()))
            .unwrap();
        let strings = part(&bytes, elf.strings().unwrap());
        let needed = elf.needed(strings);
        assert!(
            needed.iter().any(|name| name.starts_with(b"libc.so")),
            "{needed:?}"
        );
    }

    #[test]
    fn relocations_name_data_and_initialisers() {
        let bytes = own_program();
        let mut elf = Elf::parse(&bytes[..4096]).unwrap();
        elf.parse_dynamic(part(&bytes, elf.dynamic().unwrap()))
            .unwrap();
        let (mut data, mut code) = (0, 0);
        for table in elf.relocations() {
            elf.visit_relocations(part(&bytes, table), &mut |place| match place {
                Place::Relocated(offset) => {
                    assert!(offset < bytes.len() as u64);
                    data += 1;
                }
                Place::Initialiser(_) => code += 1,
            });
        }
        assert!(
            data > 100 && code > 0,
            "{data} relocated, {code} initialisers"
        );
    }

    #[test]
    fn damaged_headers_never_panic() {
        let bytes = own_program();
        for at in (0..512).chain((4096..8192).step_by(97)) {
            let mut damaged = bytes[..8192].to_vec();
            damaged[at] ^= 0xff;
            let Some(mut elf) = Elf::parse(&damaged[..4096]) else {
                continue;
            };
            let dynamic = elf.dynamic().unwrap_or(0..16);
            let start = usize::try_from(dynamic.start)
                .unwrap_or(usize::MAX)
                .min(damaged.len());
            elf.parse_dynamic(&damaged[start..]);
            elf.tables();
            elf.needed(&damaged);
            elf.visit_relocations(&damaged, &mut |_| {});
        }
        assert!(Elf::parse(b"#!/bin/sh\n").is_none());
        assert!(Elf::parse(b"\x7fELF\x02\x01").is_none());
    }
}
