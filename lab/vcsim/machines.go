package main

// What happens to machines: power, guests, configuration, removal.

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	rebootRequests   = "lab.reboot_request"   // counts RebootGuest calls, for the lab's hypervisor
	resetRequests    = "lab.reset_request"    // counts ResetVM_Task calls
	shutdownRequests = "lab.shutdown_request" // counts ShutdownGuest calls
	questionWait     = 2 * time.Minute
	firstDiskKey     = 2000
)

func (d *front) machine(ref types.ManagedObjectReference) (*simulator.VirtualMachine, *soap.Fault) {
	vm, ok := simulator.Map.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return nil, fault("The object has already been deleted or has not been completely created",
			&types.ManagedObjectNotFound{Obj: ref})
	}
	return vm, nil
}

// unleased returns the machine unless an import still holds it.
func (d *front) unleased(ref types.ManagedObjectReference) (*simulator.VirtualMachine, *soap.Fault) {
	vm, problem := d.machine(ref)
	if problem != nil {
		return nil, problem
	}
	if l := d.leases.holding(ref); l != nil {
		problem = fault("Another task is already in progress: the import.", &types.TaskInProgress{Task: l.task.Self})
	}
	return vm, problem
}

func (d *front) powerState(vm *simulator.VirtualMachine) (state types.VirtualMachinePowerState) {
	simulator.Map.WithLock(vm, func() { state = vm.Runtime.PowerState })
	return state
}

func invalidPower(existing, requested types.VirtualMachinePowerState) *soap.Fault {
	return fault("The attempted operation cannot be performed in the current state ("+string(existing)+").",
		&types.InvalidPowerState{RequestedState: requested, ExistingState: existing})
}

// guestGone shows a guest that is not running: no address, no tools.
func (d *front) guestGone(vm *simulator.VirtualMachine) {
	simulator.Map.WithLock(vm, func() {
		nics := append([]types.GuestNicInfo(nil), vm.Guest.Net...)
		for i := range nics {
			nics[i].IpAddress, nics[i].IpConfig = nil, nil
		}
		simulator.Map.Update(vm, []types.PropertyChange{
			{Name: "guest.toolsRunningStatus", Val: "guestToolsNotRunning"},
			{Name: "guest.guestState", Val: "notRunning"},
			{Name: "guest.ipAddress", Val: ""},
			{Name: "summary.guest.ipAddress", Val: ""},
			{Name: "guest.net", Val: nics},
			{Name: "guestHeartbeatStatus", Val: types.ManagedEntityStatusGray},
		})
	})
}

func (d *front) powerOn(c *call) (interface{}, *soap.Fault) {
	vm, problem := d.unleased(c.This)
	if problem != nil {
		return nil, problem
	}
	return &types.PowerOnVM_TaskResponse{Returnval: d.startPowerOn(vm)}, nil
}

// startPowerOn powers on in a separate task, which waits while the machine has a question.
func (d *front) startPowerOn(vm *simulator.VirtualMachine) types.ManagedObjectReference {
	var asked *question
	d.faults.take(func(s *faultSettings) { asked, s.Question = s.Question, nil })
	task := simulator.CreateTask(vm, "powerOn", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		if asked != nil {
			if problem := d.questions.ask(vm, asked); problem != nil {
				return nil, problem
			}
		}
		res, err := methods.PowerOnVM_Task(context.Background(), d.inner, &types.PowerOnVM_Task{This: vm.Self})
		if err != nil {
			return nil, faultOf(err).VimFault().(types.BaseMethodFault)
		}
		if failed := simulator.Map.Get(res.Returnval).(*simulator.Task).Info.Error; failed != nil {
			return nil, failed.Fault
		}
		return nil, nil
	})
	if asked == nil {
		return task.Run()
	}
	go func() {
		defer func() { _ = recover() }()
		task.Run()
	}()
	return task.Self
}

func (d *front) powerOnMulti(c *call) (interface{}, *soap.Fault) {
	req := c.Body.(*types.PowerOnMultiVM_Task)
	if d.settings.model == "esx" {
		return nil, fault("", &types.NotImplemented{})
	}
	if _, ok := simulator.Map.Get(c.This).(*simulator.Datacenter); !ok {
		return nil, fault("", &types.ManagedObjectNotFound{Obj: c.This})
	}
	var result types.ClusterPowerOnVmResult
	for _, ref := range req.Vm {
		vm, problem := d.unleased(ref)
		if problem == nil && d.faults.now().NotAttempted {
			problem = fault("", &types.InsufficientFailoverResourcesFault{})
		}
		if problem != nil {
			result.NotAttempted = append(result.NotAttempted, types.ClusterNotAttemptedVmInfo{
				Vm: ref, Fault: types.LocalizedMethodFault{
					Fault: problem.VimFault().(types.BaseMethodFault), LocalizedMessage: problem.String,
				},
			})
			continue
		}
		task := d.startPowerOn(vm)
		result.Attempted = append(result.Attempted, types.ClusterAttemptedVmInfo{Vm: ref, Task: &task})
	}
	task := simulator.CreateTask(&c.This, "powerOnMultiVM", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		return result, nil
	})
	return &types.PowerOnMultiVM_TaskResponse{Returnval: task.Run()}, nil
}

func (d *front) powerOff(c *call) (interface{}, *soap.Fault) {
	vm, problem := d.unleased(c.This)
	if problem != nil {
		return nil, problem
	}
	res, err := methods.PowerOffVM_Task(context.Background(), d.inner, &types.PowerOffVM_Task{This: vm.Self})
	if err != nil {
		return nil, faultOf(err)
	}
	d.guestGone(vm)
	return res, nil
}

// reset keeps the power state and tells the hypervisor by a counter.
func (d *front) reset(c *call) (interface{}, *soap.Fault) {
	vm, problem := d.unleased(c.This)
	if problem != nil {
		return nil, problem
	}
	task := simulator.CreateTask(vm, "reset", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		if state := d.powerState(vm); state != types.VirtualMachinePowerStatePoweredOn {
			return nil, &types.InvalidPowerState{
				RequestedState: types.VirtualMachinePowerStatePoweredOn, ExistingState: state,
			}
		}
		d.guestGone(vm)
		d.count(vm, resetRequests)
		return nil, nil
	})
	return &types.ResetVM_TaskResponse{Returnval: task.Run()}, nil
}

// runningGuest returns a machine whose guest is running.
func (d *front) runningGuest(c *call) (*simulator.VirtualMachine, *soap.Fault) {
	vm, problem := d.machine(c.This)
	if problem != nil {
		return nil, problem
	}
	if state := d.powerState(vm); state != types.VirtualMachinePowerStatePoweredOn {
		return nil, invalidPower(state, types.VirtualMachinePowerStatePoweredOn)
	}
	var running string
	simulator.Map.WithLock(vm, func() { running = vm.Guest.ToolsRunningStatus })
	if running != string(types.VirtualMachineToolsRunningStatusGuestToolsRunning) {
		return nil, fault("VMware Tools are not running in the guest.", &types.ToolsUnavailable{})
	}
	return vm, nil
}

func (d *front) rebootGuest(c *call) (interface{}, *soap.Fault) {
	vm, problem := d.runningGuest(c)
	if problem != nil {
		return nil, problem
	}
	d.guestGone(vm)
	d.count(vm, rebootRequests)
	return &types.RebootGuestResponse{}, nil
}

// shutdownGuest only asks: the hypervisor powers the machine off when its guest has ended.
func (d *front) shutdownGuest(c *call) (interface{}, *soap.Fault) {
	vm, problem := d.runningGuest(c)
	if problem != nil {
		return nil, problem
	}
	d.count(vm, shutdownRequests)
	return &types.ShutdownGuestResponse{}, nil
}

// count raises a counter in the machine's extraConfig.
func (d *front) count(vm *simulator.VirtualMachine, key string) {
	number := 0
	simulator.Map.WithLock(vm, func() {
		for _, option := range vm.Config.ExtraConfig {
			if value := option.GetOptionValue(); value.Key == key {
				number, _ = strconv.Atoi(value.Value.(string))
			}
		}
	})
	d.setExtraConfig(vm.Self, []types.BaseOptionValue{&types.OptionValue{Key: key, Value: strconv.Itoa(number + 1)}})
}

func (d *front) reconfigure(c *call) (interface{}, *soap.Fault) {
	req := c.Body.(*types.ReconfigVM_Task)
	vm, problem := d.machine(c.This)
	if problem != nil {
		return nil, problem
	}
	extra := req.Spec.ExtraConfig
	req.Spec.ExtraConfig = nil
	res, err := methods.ReconfigVM_Task(context.Background(), d.inner, req)
	if err != nil {
		return nil, faultOf(err)
	}
	if info := simulator.Map.Get(res.Returnval).(*simulator.Task).Info; info.Error == nil {
		d.dropDisks(vm.Self, removed(req.Spec.DeviceChange))
		if problem := d.setExtraConfig(vm.Self, extra); problem != nil {
			return nil, problem
		}
	}
	return res, nil
}

// removed are the disks that a reconfiguration takes away together with their files.
func removed(changes []types.BaseVirtualDeviceConfigSpec) []*types.VirtualDisk {
	var disks []*types.VirtualDisk
	for _, change := range changes {
		spec := change.GetVirtualDeviceConfigSpec()
		disk, ok := spec.Device.(*types.VirtualDisk)
		if ok && spec.Operation == types.VirtualDeviceConfigSpecOperationRemove &&
			spec.FileOperation == types.VirtualDeviceConfigSpecFileOperationDestroy {
			disks = append(disks, disk)
		}
	}
	return disks
}

// dropDisks removes what was uploaded for disks, and gives their space back.
func (d *front) dropDisks(vm types.ManagedObjectReference, disks []*types.VirtualDisk) {
	for _, disk := range disks {
		number := int(disk.Key - firstDiskKey)
		_ = os.Remove(filepath.Join(d.settings.uploads, vm.Value, fmt.Sprintf("disk-%d.vmdk", number)))
		d.dischargeDisk(vm, number)
	}
}

// setExtraConfig merges keys, an empty value removing one; keys beginning with SET. set properties.
func (d *front) setExtraConfig(ref types.ManagedObjectReference, options []types.BaseOptionValue) (problem *soap.Fault) {
	vm, missing := d.machine(ref)
	if missing != nil || len(options) == 0 {
		return missing
	}
	defer func() {
		if recover() != nil {
			problem = fault("a SET. key names no property that takes this value",
				&types.InvalidArgument{InvalidProperty: "configSpec.extraConfig"})
		}
	}()
	simulator.Map.WithLock(vm, func() {
		kept := append([]types.BaseOptionValue(nil), vm.Config.ExtraConfig...)
		var changes []types.PropertyChange
		for _, option := range options {
			value := option.GetOptionValue()
			text, _ := value.Value.(string)
			if strings.HasPrefix(value.Key, "SET.") {
				changes = append(changes, propertyChanges(vm, strings.TrimPrefix(value.Key, "SET."), value.Value)...)
				continue
			}
			at := -1
			for i := range kept {
				if kept[i].GetOptionValue().Key == value.Key {
					at = i
				}
			}
			entry := &types.OptionValue{Key: value.Key, Value: value.Value}
			switch {
			case text == "" && at >= 0:
				kept = append(kept[:at:at], kept[at+1:]...)
			case at >= 0:
				kept[at] = entry
			case text != "":
				kept = append(kept, entry)
			}
		}
		changes = append(changes, types.PropertyChange{Name: "config.extraConfig", Val: kept})
		simulator.Map.Update(vm, changes)
	})
	return nil
}

// propertyChanges are those of one SET. key; an address appears wherever a client may read it.
func propertyChanges(vm *simulator.VirtualMachine, path string, value interface{}) []types.PropertyChange {
	changes := []types.PropertyChange{{Name: path, Val: value}}
	switch path {
	case "guest.ipAddress":
		address, _ := value.(string)
		nics := append([]types.GuestNicInfo(nil), vm.Guest.Net...)
		if len(nics) > 0 {
			nics[0].IpAddress, nics[0].IpConfig = nil, nil
			if address != "" {
				nics[0].IpAddress = []string{address}
				nics[0].IpConfig = &types.NetIpConfigInfo{IpAddress: []types.NetIpConfigInfoIpAddress{{
					IpAddress: address, PrefixLength: 24, State: "preferred",
				}}}
			}
			changes = append(changes, types.PropertyChange{Name: "guest.net", Val: nics})
		}
		changes = append(changes, types.PropertyChange{Name: "summary.guest.ipAddress", Val: address})
	case "guest.hostName", "guest.toolsStatus", "guest.toolsRunningStatus":
		changes = append(changes, types.PropertyChange{Name: "summary." + path, Val: value})
	}
	return changes
}

func (d *front) destroy(c *call) (interface{}, *soap.Fault) {
	if c.This.Type != "VirtualMachine" {
		return nil, nil
	}
	vm, problem := d.unleased(c.This)
	if problem != nil {
		return nil, problem
	}
	if state := d.powerState(vm); state != types.VirtualMachinePowerStatePoweredOff {
		return nil, invalidPower(state, types.VirtualMachinePowerStatePoweredOff)
	}
	res, err := methods.Destroy_Task(context.Background(), d.inner, &types.Destroy_Task{This: vm.Self})
	if err != nil {
		return nil, faultOf(err)
	}
	d.dropFiles(vm.Self)
	return res, nil
}

func (d *front) unregister(c *call) (interface{}, *soap.Fault) {
	if _, problem := d.unleased(c.This); problem != nil {
		return nil, problem
	}
	return nil, nil
}

// removeMachine removes what a failed import created.
func (d *front) removeMachine(ref types.ManagedObjectReference) {
	if _, problem := d.machine(ref); problem == nil {
		_, _ = methods.Destroy_Task(context.Background(), d.inner, &types.Destroy_Task{This: ref})
	}
	d.dropFiles(ref)
}

func (d *front) dropFiles(ref types.ManagedObjectReference) {
	if staleUploads.MatchString(ref.Value) {
		_ = os.RemoveAll(filepath.Join(d.settings.uploads, ref.Value))
	}
	d.discharge(ref)
}

// adoptDisks gives a machine's disks the capacity that the uploaded streams have.
func (d *front) adoptDisks(ref types.ManagedObjectReference, disks []*leaseDisk) {
	vm, problem := d.machine(ref)
	if problem != nil {
		return
	}
	simulator.Map.WithLock(vm, func() {
		for _, device := range vm.Config.Hardware.Device {
			virtual, ok := device.(*types.VirtualDisk)
			if !ok {
				continue
			}
			for _, disk := range disks {
				if disk.key == virtual.Key {
					virtual.CapacityInBytes, virtual.CapacityInKB = disk.capacity, disk.capacity/1024
				}
			}
		}
	})
	for _, store := range d.datastores() {
		d.publish(store)
	}
}

// questionTable holds the machines that wait for AnswerVM.
type questionTable struct {
	mu      sync.Mutex
	waiting map[types.ManagedObjectReference]chan string
}

// ask shows the question and waits for the answer; it returns a fault if that was to cancel.
func (t *questionTable) ask(vm *simulator.VirtualMachine, asked *question) types.BaseMethodFault {
	info := types.VirtualMachineQuestionInfo{
		Id: asked.ID, Text: asked.Text, Message: []types.VirtualMachineMessage{{Id: asked.ID, Text: asked.Text}},
	}
	for key, label := range asked.Choices {
		info.Choice.ChoiceInfo = append(info.Choice.ChoiceInfo, &types.ElementDescription{
			Description: types.Description{Label: label, Summary: label}, Key: key,
		})
	}
	answered := make(chan string, 1)
	t.mu.Lock()
	if t.waiting == nil {
		t.waiting = map[types.ManagedObjectReference]chan string{}
	}
	t.waiting[vm.Self] = answered
	t.mu.Unlock()
	simulator.Map.WithLock(vm, func() {
		simulator.Map.Update(vm, []types.PropertyChange{{Name: "runtime.question", Val: info}})
	})
	choice := asked.Cancel
	select {
	case choice = <-answered:
	case <-time.After(questionWait):
	}
	t.mu.Lock()
	delete(t.waiting, vm.Self)
	t.mu.Unlock()
	simulator.Map.WithLock(vm, func() {
		vm.Runtime.Question = nil
		simulator.Map.Update(vm, []types.PropertyChange{{Name: "runtime.question", Val: nil}})
	})
	if choice == asked.Cancel {
		return &types.GenericVmConfigFault{Reason: asked.Text}
	}
	return nil
}

func (d *front) answer(c *call) (interface{}, *soap.Fault) {
	req := c.Body.(*types.AnswerVM)
	vm, problem := d.machine(c.This)
	if problem != nil {
		return nil, problem
	}
	d.questions.mu.Lock()
	defer d.questions.mu.Unlock()
	waiting, found := d.questions.waiting[vm.Self]
	if !found || vm.Runtime.Question == nil || vm.Runtime.Question.Id != req.QuestionId {
		return nil, fault("", &types.InvalidArgument{InvalidProperty: "questionId"})
	}
	select {
	case waiting <- req.AnswerChoice:
	default:
	}
	return &types.AnswerVMResponse{}, nil
}
