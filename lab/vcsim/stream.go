package main

// Checks a streamOptimized VMDK while it arrives, by the technical note "Virtual Disk Format 5.0".
//
// It reads the form with tables and footer at the end, which a one-way upload needs. The data of a
// grain is not inflated: only its zlib header and its length are checked.

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

const (
	sectorBytes       = 512
	grainSectors      = 128
	tableEntries      = 512
	maxCompressed     = 129*sectorBytes - 12
	maxDescriptor     = 20
	maxOverHead       = 2048
	directoryAtEnd    = ^uint64(0)
	wantedFlags       = 0x30001
	markerEnd         = 0
	markerTable       = 1
	markerDirectory   = 2
	markerFooter      = 3
	footerAndEndBytes = 3 * sectorBytes
)

// judge takes the stream in pieces of any length. What it expects next is a length and a function that
// reads exactly that many bytes, so it holds one piece at a time, however large the disk is.
type judge struct {
	held     []byte // an unfinished piece
	want     int
	next     func([]byte) error
	skipping int64 // bytes to pass over unread

	position   int64 // bytes taken so far
	header     []byte
	capacity   uint64 // sectors
	overHead   uint64
	lastGrain  int64 // number of the newest grain, -1 before the first
	tableGroup int64 // table of the grains since the last table, -1 if there are none
	table      [tableEntries]uint32
	directory  []uint32 // the sector of each table, as met
	grainAt    int64
	populated  int64 // bytes of data in the grains
	gdSector   uint32
	ended      bool
}

func newJudge() *judge {
	j := &judge{lastGrain: -1, tableGroup: -1}
	j.expect(sectorBytes, j.readHeader)
	return j
}

func (j *judge) expect(bytes int, next func([]byte) error) { j.want, j.next = bytes, next }

// Write implements io.Writer; its error says what is wrong with the stream.
func (j *judge) Write(data []byte) (int, error) {
	total := len(data)
	for len(data) > 0 {
		if j.ended {
			return 0, fmt.Errorf("bytes after the end-of-stream marker")
		}
		if j.skipping > 0 {
			pass := int64(len(data))
			if pass > j.skipping {
				pass = j.skipping
			}
			data, j.skipping, j.position = data[pass:], j.skipping-pass, j.position+pass
			continue
		}
		var piece []byte
		if len(j.held) == 0 && len(data) >= j.want {
			piece, data = data[:j.want], data[j.want:]
		} else {
			take := j.want - len(j.held)
			if take > len(data) {
				take = len(data)
			}
			j.held = append(j.held, data[:take]...)
			data = data[take:]
			if len(j.held) < j.want {
				break
			}
			piece = j.held
		}
		j.position += int64(len(piece))
		if err := j.next(piece); err != nil {
			return 0, err
		}
		j.held = j.held[:0]
	}
	return total, nil
}

// finish tells whether the stream was complete.
func (j *judge) finish() error {
	if !j.ended {
		return fmt.Errorf("the stream ends without footer and end-of-stream marker")
	}
	return nil
}

func (j *judge) capacityBytes() int64 { return int64(j.capacity) * sectorBytes }

func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

func (j *judge) readHeader(b []byte) error {
	flags := le32(b[8:])
	descriptorOffset, descriptorSize := le64(b[28:]), le64(b[36:])
	j.capacity, j.overHead = le64(b[12:]), le64(b[64:])
	switch {
	case string(b[:4]) != "KDMV":
		return fmt.Errorf("not a sparse VMDK: the magic number is missing")
	case le32(b[4:]) != 3:
		return fmt.Errorf("not a supported disk format (sparse VMDK version %d, must be 3)", le32(b[4:]))
	case flags&4 != 0:
		return fmt.Errorf("flag bit 2, zero-grain table entries, is set")
	case flags != wantedFlags:
		return fmt.Errorf("flags are %#x, must be %#x (compressed grains with markers)", flags, wantedFlags)
	case j.capacity == 0 || j.capacity > 62<<31:
		return fmt.Errorf("capacity of %d sectors is out of bounds", j.capacity)
	case le64(b[20:]) != grainSectors:
		return fmt.Errorf("grains of %d sectors, must be %d", le64(b[20:]), grainSectors)
	case le32(b[44:]) != tableEntries:
		return fmt.Errorf("%d entries per grain table, must be %d", le32(b[44:]), tableEntries)
	case le64(b[56:]) != directoryAtEnd:
		return fmt.Errorf("the grain directory is not at the end, where a stream has it")
	case descriptorOffset != 1 || descriptorSize == 0 || descriptorSize > maxDescriptor:
		return fmt.Errorf("the descriptor is at sector %d, %d sectors long", descriptorOffset, descriptorSize)
	case j.overHead < descriptorOffset+descriptorSize || j.overHead > maxOverHead:
		return fmt.Errorf("overHead of %d sectors does not cover header and descriptor", j.overHead)
	case b[72] != 0:
		return fmt.Errorf("the disk was not shut down cleanly")
	case string(b[73:77]) != "\n \r\n":
		return fmt.Errorf("the newline test failed: a transfer has changed the file")
	case binary.LittleEndian.Uint16(b[77:]) != 1:
		return fmt.Errorf("compression %d, must be 1 (deflate)", binary.LittleEndian.Uint16(b[77:]))
	}
	j.header = append([]byte(nil), b...)
	j.expect(int(descriptorSize)*sectorBytes, j.readDescriptor)
	return nil
}

var (
	keyValue   = regexp.MustCompile(`(?m)^\s*([A-Za-z]+)\s*=\s*"?([^"\r\n]*?)"?\s*$`)
	extentLine = regexp.MustCompile(`(?m)^\s*(?:RW|RDONLY)\s+(\d+)\s+SPARSE\s+"[^"/\\]*"`)
)

func (j *judge) readDescriptor(b []byte) error {
	text := string(bytes.TrimRight(b, "\x00"))
	values := map[string]string{}
	for _, match := range keyValue.FindAllStringSubmatch(text, -1) {
		values[strings.ToLower(match[1])] = strings.ToLower(match[2])
	}
	extents := extentLine.FindAllStringSubmatch(text, -1)
	cid := values["cid"]
	_, hasHint := values["parentfilenamehint"]
	switch {
	case values["createtype"] != "streamoptimized":
		return fmt.Errorf("createType is %q, must be streamOptimized", values["createtype"])
	case values["parentcid"] != "ffffffff" || hasHint:
		return fmt.Errorf("the disk has a parent (parentCID=%s): only whole disks are imported", values["parentcid"])
	case cid == "" || cid == "ffffffff" || cid == "fffffffe":
		return fmt.Errorf("CID is %q", cid)
	case len(extents) != 1 || extents[0][1] != strconv.FormatUint(j.capacity, 10):
		return fmt.Errorf("the descriptor's extent does not have the %d sectors of the header", j.capacity)
	}
	j.skipping = int64(j.overHead)*sectorBytes - j.position
	j.expect(sectorBytes, j.readMarker)
	return nil
}

// readMarker reads a sector that begins either a grain or metadata.
func (j *judge) readMarker(b []byte) error {
	value, size := le64(b), le32(b[8:])
	if size != 0 {
		return j.beginGrain(value, size, b)
	}
	kind := le32(b[12:])
	switch kind {
	case markerTable:
		return j.beginTable(value)
	case markerDirectory:
		return j.beginDirectory(value)
	case markerEnd:
		return fmt.Errorf("end of stream without grain directory and footer")
	default:
		return fmt.Errorf("marker type %d at sector %d", kind, j.position/sectorBytes-1)
	}
}

func (j *judge) beginGrain(sector uint64, size uint32, b []byte) error {
	grain := int64(sector / grainSectors)
	switch {
	case sector%grainSectors != 0:
		return fmt.Errorf("a grain at disk sector %d, which is not a multiple of %d", sector, grainSectors)
	case sector >= j.capacity:
		return fmt.Errorf("a grain at disk sector %d of a disk of %d", sector, j.capacity)
	case grain <= j.lastGrain:
		return fmt.Errorf("grain %d comes after grain %d: not ascending", grain, j.lastGrain)
	case size > maxCompressed:
		return fmt.Errorf("grain %d takes %d bytes compressed, more than %d", grain, size, maxCompressed)
	case j.tableGroup >= 0 && grain/tableEntries != j.tableGroup:
		return fmt.Errorf("grain %d comes before the grain table of the grains before it", grain)
	case grain/tableEntries < int64(len(j.directory)):
		return fmt.Errorf("grain %d comes after the grain table that should name it", grain)
	case b[12]&0x0f != 8 || (int(b[12])<<8|int(b[13]))%31 != 0 || b[13]&0x20 != 0:
		return fmt.Errorf("grain %d is not in zlib form (RFC 1950)", grain)
	}
	at := j.position - sectorBytes
	if at/sectorBytes > 1<<32-1 {
		return fmt.Errorf("grain %d lies beyond the 2 TiB that tables can address", grain)
	}
	j.tableGroup, j.lastGrain = grain/tableEntries, grain
	j.table[grain%tableEntries] = uint32(at / sectorBytes)
	j.populated += grainSectors * sectorBytes
	padded := (int64(size) + 12 + sectorBytes - 1) / sectorBytes * sectorBytes
	j.skipping = padded - sectorBytes
	return nil
}

func (j *judge) beginTable(sectors uint64) error {
	if sectors != tableEntries*4/sectorBytes {
		return fmt.Errorf("a grain table of %d sectors", sectors)
	}
	j.expect(tableEntries*4, j.readTable)
	return nil
}

func (j *judge) readTable(b []byte) error {
	group := j.tableGroup
	if group < 0 { // a table for a group without grains
		group = int64(len(j.directory))
	}
	for i := range j.table {
		if found := le32(b[i*4:]); found != j.table[i] {
			return fmt.Errorf("table %d says grain %d is at sector %d, it is at %d",
				group, group*tableEntries+int64(i), found, j.table[i])
		}
	}
	if group >= j.directoryLength() {
		return fmt.Errorf("more grain tables than a disk of this capacity has")
	}
	for int64(len(j.directory)) < group {
		j.directory = append(j.directory, 0)
	}
	j.directory = append(j.directory, uint32((j.position-tableEntries*4)/sectorBytes))
	j.table = [tableEntries]uint32{}
	j.tableGroup = -1
	j.expect(sectorBytes, j.readMarker)
	return nil
}

func (j *judge) directoryLength() int64 {
	const covered = grainSectors * tableEntries
	return int64((j.capacity + covered - 1) / covered)
}

func (j *judge) beginDirectory(sectors uint64) error {
	bytes := j.directoryLength() * 4
	if j.tableGroup >= 0 {
		return fmt.Errorf("the grain directory comes before the last grain table")
	}
	if int64(sectors) != (bytes+sectorBytes-1)/sectorBytes {
		return fmt.Errorf("a grain directory of %d sectors for %d tables", sectors, j.directoryLength())
	}
	j.expect(int(sectors)*sectorBytes, j.readDirectory)
	return nil
}

func (j *judge) readDirectory(b []byte) error {
	for i := int64(0); i < j.directoryLength(); i++ {
		var met uint32
		if i < int64(len(j.directory)) {
			met = j.directory[i]
		}
		if found := le32(b[i*4:]); found != met {
			return fmt.Errorf("the directory says table %d is at sector %d, it is at %d", i, found, met)
		}
	}
	j.gdSector = uint32((j.position - int64(len(b))) / sectorBytes)
	j.expect(footerAndEndBytes, j.readEnd)
	return nil
}

// readEnd reads the last three sectors: footer marker, footer, end-of-stream marker.
func (j *judge) readEnd(b []byte) error {
	marker, footer, end := b[:sectorBytes], b[sectorBytes:2*sectorBytes], b[2*sectorBytes:]
	if le64(marker) != 1 || le32(marker[8:]) != 0 || le32(marker[12:]) != markerFooter {
		return fmt.Errorf("no footer marker after the grain directory")
	}
	if le64(footer[56:]) != uint64(j.gdSector) {
		return fmt.Errorf("the footer says the directory is at sector %d, it is at %d", le64(footer[56:]), j.gdSector)
	}
	wanted := append([]byte(nil), j.header...)
	copy(wanted[56:64], footer[56:64])
	if !bytes.Equal(footer, wanted) {
		return fmt.Errorf("the footer is not a copy of the header")
	}
	if len(bytes.Trim(end, "\x00")) != 0 {
		return fmt.Errorf("no end-of-stream marker after the footer")
	}
	j.ended = true
	return nil
}
