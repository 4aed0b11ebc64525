package main

// ImportVApp and the other ways to create a machine: the checks before the simulator creates it.

import (
	"context"
	"fmt"
	"log"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	maxNameLength      = 80
	maxHardwareVersion = 17 // of vSphere 7.0
	maxDiskBytes       = 62 << 40
	scsiOwnUnit        = 7
)

// makingPlan is a creation that has passed the checks.
type makingPlan struct {
	folder, pool types.ManagedObjectReference
	host         *types.ManagedObjectReference
	store        *simulator.Datastore
	config       *types.VirtualMachineConfigSpec
	disks        []*leaseDisk
	extra        []types.BaseOptionValue
}

func (d *front) importVApp(c *call) (interface{}, *soap.Fault) {
	req := c.Body.(*types.ImportVApp)
	spec, ok := req.Spec.(*types.VirtualMachineImportSpec)
	if !ok {
		return nil, fault("", &types.InvalidArgument{InvalidProperty: "spec"})
	}
	d.creating.Lock()
	defer d.creating.Unlock()
	plan, problem := d.planMaking(req.This, req.Folder, req.Host, &spec.ConfigSpec)
	if problem != nil {
		return nil, problem
	}
	l := d.leases.open(plan.pool, plan.config.Name)
	l.disks = plan.disks
	// The host checks devices after the call has been answered, so such faults end the lease.
	go d.fill(l, plan)
	return &types.ImportVAppResponse{Returnval: l.Self}, nil
}

// fill creates the lease's machine and opens the lease for uploads.
func (d *front) fill(l *lease, plan *makingPlan) {
	defer func() {
		if cause := recover(); cause != nil {
			log.Printf("import: %v\n%s", cause, debug.Stack())
			l.Lock()
			l.fail(fmt.Sprint(cause), &types.InvalidRequest{})
			l.Unlock()
		}
	}()
	d.creating.Lock()
	defer d.creating.Unlock()
	var vm types.ManagedObjectReference
	problem := d.checkName(plan)
	if problem == nil {
		problem = d.checkDevices(plan)
	}
	if problem == nil {
		vm, problem = d.make(plan)
	}
	l.Lock()
	defer l.Unlock()
	if problem != nil {
		l.fail(problem.String, problem.VimFault().(types.BaseMethodFault))
		return
	}
	if l.State != types.HttpNfcLeaseStateInitializing { // aborted in the meantime
		d.removeMachine(vm)
		return
	}
	_ = os.RemoveAll(filepath.Join(d.settings.uploads, vm.Value))
	l.disks = plan.disks
	l.ready(vm)
}

// createVM creates machines with empty disks, with the same checks.
func (d *front) createVM(c *call) (interface{}, *soap.Fault) {
	req := c.Body.(*types.CreateVM_Task)
	d.creating.Lock()
	defer d.creating.Unlock()
	plan, problem := d.planMaking(req.Pool, &req.This, req.Host, &req.Config)
	if problem == nil {
		problem = d.checkDevices(plan)
	}
	if problem != nil {
		return nil, problem
	}
	vm, problem := d.make(plan)
	task := simulator.CreateTask(&plan.folder, "createVm", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		if problem != nil {
			return nil, problem.VimFault().(types.BaseMethodFault)
		}
		return vm, nil
	})
	return &types.CreateVM_TaskResponse{Returnval: task.Run()}, nil
}

func (d *front) cloneVM(c *call) (interface{}, *soap.Fault) {
	return nil, fault("cloning is not part of this simulator", &types.NotSupported{})
}

// planMaking checks what vCenter checks before it answers: name, placement and datastore.
func (d *front) planMaking(
	pool types.ManagedObjectReference, folder, host *types.ManagedObjectReference, config *types.VirtualMachineConfigSpec,
) (*makingPlan, *soap.Fault) {
	plan := &makingPlan{pool: pool, host: host, config: config}
	entity, ok := simulator.Map.Get(pool).(mo.Entity)
	if !ok || (pool.Type != "ResourcePool" && pool.Type != "VirtualApp") {
		return nil, fault("", &types.ManagedObjectNotFound{Obj: pool})
	}
	compute, datacenter := d.computeOf(entity), d.datacenterOf(entity)
	if compute == nil || datacenter == nil {
		return nil, fault("", &types.InvalidArgument{InvalidProperty: "pool"})
	}
	plan.folder = datacenter.VmFolder
	if folder != nil {
		plan.folder = *folder
	}
	target, ok := simulator.Map.Get(plan.folder).(*simulator.Folder)
	if !ok {
		return nil, fault("", &types.ManagedObjectNotFound{Obj: plan.folder})
	}
	if d.datacenterOf(target) != datacenter || !holdsMachines(target) {
		return nil, fault("not a folder for virtual machines of this datacenter",
			&types.InvalidArgument{InvalidProperty: "folder"})
	}
	if host != nil {
		if _, known := simulator.Map.Get(*host).(*simulator.HostSystem); !known {
			return nil, fault("", &types.ManagedObjectNotFound{Obj: *host})
		}
		if simulator.FindReference(compute.Host, *host) == nil {
			return nil, fault("the host is not of the pool's compute resource",
				&types.InvalidArgument{InvalidProperty: "host"})
		}
	}
	if !isName(config.Name) {
		return nil, fault("", &types.InvalidName{Name: config.Name})
	}
	if problem := d.checkName(plan); problem != nil {
		return nil, problem
	}
	return plan, d.checkStore(plan, datacenter, compute)
}

// isName tells whether a name is short enough, and escaped where it has to be.
func isName(name string) bool {
	plain, err := url.PathUnescape(name)
	length := len(utf16.Encode([]rune(plain)))
	return err == nil && length > 0 && length <= maxNameLength && !strings.ContainsAny(name, `/\`) &&
		strings.IndexFunc(plain, unicode.IsControl) < 0
}

func holdsMachines(folder *simulator.Folder) bool {
	for _, kind := range folder.ChildType {
		if kind == "VirtualMachine" {
			return true
		}
	}
	return false
}

func (d *front) checkName(plan *makingPlan) *soap.Fault {
	folder := simulator.Map.Get(plan.folder).(*simulator.Folder)
	for _, child := range folder.ChildEntity {
		if vm, ok := simulator.Map.Get(child).(*simulator.VirtualMachine); ok && vm.Name == plan.config.Name {
			return fault(fmt.Sprintf("The name '%s' already exists.", vm.Name),
				&types.DuplicateName{Name: vm.Name, Object: child})
		}
	}
	return nil
}

func (d *front) checkStore(plan *makingPlan, dc *simulator.Datacenter, compute *mo.ComputeResource) *soap.Fault {
	var path object.DatastorePath
	if plan.config.Files == nil || !path.FromString(plan.config.Files.VmPathName) {
		return fault("", &types.InvalidDatastorePath{})
	}
	invalid := types.InvalidDatastore{Name: path.Datastore}
	for _, ref := range compute.Datastore {
		if store, ok := simulator.Map.Get(ref).(*simulator.Datastore); ok && store.Name == path.Datastore {
			plan.store = store
			invalid.Datastore = &store.Self
		}
	}
	switch {
	case plan.store == nil:
		return fault(fmt.Sprintf("no datastore %s is mounted here", path.Datastore),
			&types.InvalidDatastorePath{InvalidDatastore: invalid, DatastorePath: plan.config.Files.VmPathName})
	case !plan.store.Summary.Accessible || d.faults.now().RefuseDatastore == path.Datastore:
		return fault("the datastore is not accessible", &types.InaccessibleDatastore{InvalidDatastore: invalid})
	case plan.store.Summary.MaintenanceMode != "" && plan.store.Summary.MaintenanceMode != "normal":
		return fault("the datastore is in maintenance", &invalid)
	case d.free(plan.store) <= 0:
		return fault("Insufficient disk space on datastore "+path.Datastore, &types.NoDiskSpace{Datastore: path.Datastore})
	}
	return nil
}

// controllerNames are the controllers' names in importKey, and their first device keys.
var controllerKinds = []struct {
	match func(types.BaseVirtualDevice) bool
	name  string
	first int32
	units int32
	scsi  bool
}{
	{func(v types.BaseVirtualDevice) bool { _, ok := v.(*types.ParaVirtualSCSIController); return ok }, "ParaVirtualSCSIController", 1000, 64, true},
	{func(v types.BaseVirtualDevice) bool { _, ok := v.(*types.VirtualLsiLogicSASController); return ok }, "VirtualLsiLogicSASController", 1000, 16, true},
	{func(v types.BaseVirtualDevice) bool { _, ok := v.(*types.VirtualLsiLogicController); return ok }, "VirtualLsiLogicController", 1000, 16, true},
	{func(v types.BaseVirtualDevice) bool { _, ok := v.(*types.VirtualBusLogicController); return ok }, "VirtualBusLogicController", 1000, 16, true},
	{func(v types.BaseVirtualDevice) bool { _, ok := v.(*types.VirtualAHCIController); return ok }, "VirtualAHCIController", 15000, 30, false},
	{func(v types.BaseVirtualDevice) bool { _, ok := v.(*types.VirtualNVMEController); return ok }, "VirtualNVMEController", 31000, 15, false},
}

type controllerSlot struct {
	name  string
	bus   int32
	key   int32
	units int32
	scsi  bool
}

func badDevice(index int, property, text string) *soap.Fault {
	path := fmt.Sprintf("configSpec.deviceChange[%d].device.%s", index, property)
	spec := types.InvalidDeviceSpec{DeviceIndex: int32(index)}
	spec.Property = path
	if strings.HasPrefix(property, "backing") {
		return fault(text, &types.InvalidDeviceBacking{InvalidDeviceSpec: spec})
	}
	return fault(text, &spec)
}

// checkDevices checks what the host checks, and assigns device keys as a host would.
func (d *front) checkDevices(plan *makingPlan) *soap.Fault {
	if version := plan.config.Version; version != "" {
		number, err := strconv.Atoi(strings.TrimPrefix(version, "vmx-"))
		if err != nil || !strings.HasPrefix(version, "vmx-") || number > maxHardwareVersion {
			host := d.anyHost(plan)
			return fault("hardware version "+version+" is not supported",
				&types.VirtualHardwareVersionNotSupported{HostName: host.Name, Host: host.Self})
		}
	}
	if guest := plan.config.GuestId; guest != "" && !knownGuest(guest) {
		return fault("guest "+guest+" is not known", &types.InvalidArgument{InvalidProperty: "configSpec.guestId"})
	}
	plan.disks, plan.extra = nil, nil
	slots := map[int32]controllerSlot{
		200: {"VirtualIDEController", 0, 200, 2, false}, 201: {"VirtualIDEController", 1, 201, 2, false},
	}
	nics := int32(0)
	for i, change := range plan.config.DeviceChange {
		if change.GetVirtualDeviceConfigSpec().Device == nil {
			return badDevice(i, "device", "a change without a device")
		}
		if problem := addSlot(slots, i, change.GetVirtualDeviceConfigSpec().Device); problem != nil {
			return problem
		}
	}
	taken := map[string]bool{}
	for i, change := range plan.config.DeviceChange {
		var problem *soap.Fault
		switch device := change.GetVirtualDeviceConfigSpec().Device.(type) {
		case *types.VirtualDisk:
			problem = d.checkDisk(plan, slots, taken, i, device)
		case types.BaseVirtualEthernetCard:
			device.GetVirtualEthernetCard().Key = 4000 + nics
			nics++
			problem = d.checkNetwork(plan, i, device)
		}
		if problem != nil {
			return problem
		}
	}
	thick := int64(0)
	for _, disk := range plan.disks {
		if disk.thick {
			thick += disk.askedAmount
		}
	}
	if thick > d.free(plan.store) {
		return fault("Insufficient disk space on datastore "+plan.store.Name, &types.NoDiskSpace{Datastore: plan.store.Name})
	}
	plan.extra, plan.config.ExtraConfig = plan.config.ExtraConfig, nil
	return nil
}

func knownGuest(id string) bool {
	for _, known := range simulator.GuestID {
		if string(known) == id {
			return true
		}
	}
	return false
}

// anyHost returns a host that the machine could run on.
func (d *front) anyHost(plan *makingPlan) *simulator.HostSystem {
	ref := plan.host
	if ref == nil {
		ref = &d.computeOf(simulator.Map.Get(plan.pool).(mo.Entity)).Host[0]
	}
	return simulator.Map.Get(*ref).(*simulator.HostSystem)
}

func addSlot(slots map[int32]controllerSlot, index int, device types.BaseVirtualDevice) *soap.Fault {
	controller, ok := device.(types.BaseVirtualController)
	if !ok {
		return nil
	}
	base := controller.GetVirtualController()
	for _, kind := range controllerKinds {
		if !kind.match(device) {
			continue
		}
		if base.BusNumber < 0 || base.BusNumber > 3 {
			return badDevice(index, "busNumber", "there are buses 0 to 3")
		}
		asked, key := base.Key, kind.first+base.BusNumber
		if _, twice := slots[asked]; twice {
			return badDevice(index, "key", "two controllers with one key")
		}
		for _, slot := range slots {
			if slot.key == key {
				return badDevice(index, "busNumber", "two controllers on one bus")
			}
		}
		base.Key = key
		slots[asked] = controllerSlot{kind.name, base.BusNumber, key, kind.units, kind.scsi}
	}
	return nil
}

func (d *front) checkDisk(
	plan *makingPlan, slots map[int32]controllerSlot, taken map[string]bool, index int, disk *types.VirtualDisk,
) *soap.Fault {
	slot, found := slots[disk.ControllerKey]
	if !found {
		return badDevice(index, "controllerKey", "the disk's controller is not there")
	}
	if disk.UnitNumber == nil || *disk.UnitNumber < 0 || *disk.UnitNumber >= slot.units {
		return badDevice(index, "unitNumber", "the disk has no unit number that its controller has")
	}
	if slot.scsi && *disk.UnitNumber == scsiOwnUnit {
		return badDevice(index, "unitNumber", "unit 7 is the controller's own")
	}
	device := fmt.Sprintf("%s%d:%d", slot.name, slot.bus, *disk.UnitNumber)
	if taken[device] {
		return badDevice(index, "unitNumber", "two disks at "+device)
	}
	taken[device] = true
	capacity := disk.CapacityInBytes
	if capacity == 0 {
		capacity = disk.CapacityInKB * 1024
	}
	if capacity <= 0 || capacity > maxDiskBytes {
		return badDevice(index, "capacityInBytes", fmt.Sprintf("a disk of %d bytes", capacity))
	}
	if d.faults.now().VvolDatastore == plan.store.Name && capacity%(1<<20) != 0 {
		return badDevice(index, "capacityInBytes", "a disk on a vVol that has no whole MiB")
	}
	backing, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if !ok {
		return badDevice(index, "backing", "the disk's backing is not flat")
	}
	if name := strings.Trim(backing.FileName, " []"); name != "" && name != plan.store.Name {
		return badDevice(index, "backing.fileName", "disks must lie on the machine's datastore here")
	}
	backing.FileName, backing.Datastore = "", nil
	disk.CapacityInBytes, disk.CapacityInKB = capacity, capacity/1024
	disk.ControllerKey = slot.key
	number := len(plan.disks)
	disk.Key = firstDiskKey + int32(number)
	plan.disks = append(plan.disks, &leaseDisk{
		number: number, key: disk.Key, device: device, digestKind: "sha1", datastore: plan.store.Self,
		askedAmount: capacity, thick: backing.ThinProvisioned == nil || !*backing.ThinProvisioned,
	})
	return nil
}

func (d *front) checkNetwork(plan *makingPlan, index int, nic types.BaseVirtualEthernetCard) *soap.Fault {
	compute := d.computeOf(simulator.Map.Get(plan.pool).(mo.Entity))
	switch backing := nic.GetVirtualEthernetCard().Backing.(type) {
	case *types.VirtualEthernetCardNetworkBackingInfo:
		for _, ref := range compute.Network {
			if network, ok := simulator.Map.Get(ref).(*mo.Network); ok && network.Name == backing.DeviceName {
				return nil
			}
		}
		return badDevice(index, "backing.deviceName", fmt.Sprintf("no network %q is visible here", backing.DeviceName))
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		ref := types.ManagedObjectReference{Type: "DistributedVirtualPortgroup", Value: backing.Port.PortgroupKey}
		group, ok := simulator.Map.Get(ref).(*simulator.DistributedVirtualPortgroup)
		if !ok || simulator.FindReference(compute.Network, ref) == nil {
			return badDevice(index, "backing.port.portgroupKey",
				fmt.Sprintf("no port group %q is visible here", backing.Port.PortgroupKey))
		}
		owner, _ := simulator.Map.Get(*group.Config.DistributedVirtualSwitch).(*simulator.DistributedVirtualSwitch)
		if owner == nil || owner.Uuid != backing.Port.SwitchUuid {
			return badDevice(index, "backing.port.switchUuid", "the port group is not of that switch")
		}
		return nil
	}
	return badDevice(index, "backing", "the network adapter has no network")
}

// make has the simulator create the machine; if that fails, nothing is left behind.
func (d *front) make(plan *makingPlan) (types.ManagedObjectReference, *soap.Fault) {
	if plan.config.Files != nil {
		plan.config.Files.VmPathName = "[" + plan.store.Name + "]"
	}
	res, err := methods.CreateVM_Task(context.Background(), d.inner, &types.CreateVM_Task{
		This: plan.folder, Config: *plan.config, Pool: plan.pool, Host: plan.host,
	})
	var problem *soap.Fault
	var vm types.ManagedObjectReference
	if err != nil {
		problem = faultOf(err)
	} else {
		info := simulator.Map.Get(res.Returnval).(*simulator.Task).Info
		if info.Error != nil {
			problem = fault(info.Error.LocalizedMessage, info.Error.Fault)
		} else {
			vm = info.Result.(types.ManagedObjectReference)
		}
	}
	if problem != nil {
		d.dropHalfMade(plan)
		return vm, problem
	}
	for _, disk := range plan.disks {
		if disk.thick {
			d.charge(disk.datastore, vm, disk.number, disk.askedAmount)
		}
	}
	d.publish(plan.store)
	d.setExtraConfig(vm, plan.extra)
	return vm, nil
}

// dropHalfMade removes a machine from its folder after the simulator failed to create it.
func (d *front) dropHalfMade(plan *makingPlan) {
	folder := simulator.Map.Get(plan.folder).(*simulator.Folder)
	for _, child := range append([]types.ManagedObjectReference(nil), folder.ChildEntity...) {
		vm, ok := simulator.Map.Get(child).(*simulator.VirtualMachine)
		if child.Type != "VirtualMachine" || (ok && vm.Runtime.Host != nil && vm.Name != "") {
			continue
		}
		simulator.Map.RemoveReference(folder, &folder.ChildEntity, child)
		simulator.Map.Remove(child)
	}
}
