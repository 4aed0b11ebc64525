"""The important lines: order of syncs and renames, epochs, leases, digests, access, undos, limits.

Each stands with how it is broken and with the tests that have to notice. A comparison that must
hold is broken by `never`, a call that must be made by `left_out`, anything else by `instead`.
"""

from collections.abc import Iterator

from tests.mutants.mutant import Mutant

STORE = "tests/recovery_store"
VMDK = f"{STORE}/vmdk"
POWER_CUT = f"{STORE}/test_power_cut.py"
AGENT = "tests/agent"
PLAN = "tests/console/jobs/test_plan.py tests/console/jobs/test_plan_properties.py"
JOBS = "tests/console/jobs"
OWNERSHIP = "tests/protected_machines/test_ownership.py"
VSPHERE = "tests/vsphere"
CORES = "tests/replication"


def never(file: str, tests: str, *conditions: str) -> Iterator[Mutant]:
    """Have `if …:` never be true."""
    for condition in conditions:
        yield Mutant(file, f"if {condition}:", "if False:", tests)


def left_out(file: str, tests: str, *lines: str) -> Iterator[Mutant]:
    """Leave a line out."""
    for line in lines:
        yield Mutant(file, line, "pass", tests)


def instead(file: str, tests: str, *pairs: tuple[str, str]) -> Iterator[Mutant]:
    """Write the second text instead of the first."""
    for before, after in pairs:
        yield Mutant(file, before, after, tests)


def _store() -> Iterator[Mutant]:
    yield from left_out("recovery_store/folders.py", POWER_CUT, "os.fsync(file.fileno())")
    yield from instead(
        "recovery_store/folders.py",
        POWER_CUT,
        ("path.mkdir(exist_ok=True)\n    sync_folder(path.parent)", "path.mkdir(exist_ok=True)"),
    )
    yield from left_out(
        "recovery_store/point_writer.py",
        POWER_CUT,
        "os.fsync(disk.fd)",
        "sync_folder(self._folder)",
    )
    yield from left_out(
        "recovery_store/replica.py",
        POWER_CUT,
        "sync_file(self._folder / disk.file)",
        "sync_folder(self._folder)",
    )
    yield from left_out("recovery_store/store.py", POWER_CUT, "sync_folder(access.points)")
    yield from left_out(
        "recovery_store/point_writer.py",
        f"{STORE}/test_point_writer.py {STORE}/test_store.py {STORE}/test_withdraw.py",
        "self._check_parent_is_there()",
        "disk.validator.finish()",
    )
    yield from instead(
        "recovery_store/point_writer.py",
        f"{STORE}/test_point_writer.py {STORE}/test_content.py",
        ("content_digest = _check_grain_digests(disk)", "content_digest = None"),
        ("length_bytes != disk.length_bytes or digest_hex", "digest_hex"),
        (" or digest_hex != disk.digests.whole()", ""),
    )
    yield from never(
        "recovery_store/point_writer.py",
        f"{STORE}/test_store_full.py",
        "self._unchecked_bytes >= _SPACE_CHECK_BYTES",
    )
    yield from never(
        "recovery_store/folders.py",
        f"{STORE}/test_two_processes.py {STORE}/test_point_writer.py {STORE}/test_store_full.py",
        "free_bytes < needed_bytes + reserve_bytes",
        "error.errno in _FULL_ERRORS",
    )
    yield from instead(
        "recovery_store/folders.py",
        STORE,
        ("if _names_same_file(self._path, self._fd):", "if True:"),
    )
    yield from never(
        "recovery_store/replica.py",
        f"{STORE}/test_replica.py",
        "offset_bytes != have_bytes",
        "offset_bytes + len(data) > disk.file_bytes",
        "digest_range(fd, start, end, buffer) != disk.range_digests[number]",
        "(parent and parent.digest) != self.manifest.parent_digest",
        "have_bytes != disk.file_bytes",
        "part.hexdigest() != expected",
        "whole.hexdigest() != disk.digest",
    )
    yield from never(
        "recovery_store/proof.py",
        f"{STORE}/test_damage.py",
        "length_bytes != disk.file_bytes",
        "digest != disk.range_digests[number]",
    )
    yield from never(
        "recovery_store/manifest.py",
        f"{STORE}/test_manifest.py",
        "len(data) > MANIFEST_LIMIT_BYTES",
        "manifest.to_bytes() != data or manifest.sealed().digest != manifest.digest",
        "taken_at.utcoffset() != timedelta(0)",
        "disk.parent is not None and disk.parent[0] != manifest.parent_point_id",
        "str(uuid.UUID(text)) != text",
    )
    yield from never(
        "recovery_store/store.py",
        STORE,
        "manifest.machine_id != machine_id",
        "here is not None and here.digest != manifest.digest",
        "parent.digest != manifest.parent_digest",
        "children",
    )
    yield from never(
        "recovery_store/grain_table.py",
        f"{STORE}/test_grain_table.py",
        "blake3(data).digest() != self.slice_digest(number)",
        "data[: _HEAD.size] != expected or seal != _seal(expected, slice_digests)",
    )
    yield from never(
        "recovery_store/inventory.py",
        STORE,
        "(manifest.machine_id, manifest.point_id) != (machine_id, point_id)",
        "manifest.folder_name != folder.name",
        "child is not None and child.parent_digest != manifest.digest",
        "length_bytes != disk.file_bytes",
    )
    yield from never(
        "recovery_store/vmdk/validator.py",
        VMDK,
        "not self._is_complete",
        "remainder or not self._next_grain <= grain < self._grain_limit",
        "size_bytes > COMPRESSED_GRAIN_LIMIT_BYTES",
        "got != expected and not is_zero_grain",
        "sector != END_OF_STREAM",
        "seen != len(self._table_sectors)",
    )


def _agent() -> Iterator[Mutant]:
    yield from never(
        "agent/service.py",
        f"{AGENT}/test_pairing.py {AGENT}/test_strangers.py {AGENT}/test_hold.py",
        'not exchange.is_proof(get_text(answer, "proof"), Side.CORE, key)',
        "self._core is None",
        "self._is_frozen",
        "len(nonce) != NONCE_BYTES",
    )
    yield from left_out(
        "agent/service.py",
        f"{AGENT}/test_pairing.py",
        "self._pairing.count_try(code)",
        "self._pairing.use_up()",
    )
    yield from never(
        "agent/settings.py",
        f"{AGENT}/test_settings.py",
        "settings.agent_fingerprint != agent_fingerprint",
        "not _is_vouched_for(signed, settings, state)",
    )
    yield from instead(
        "agent/settings.py",
        f"{AGENT}/test_settings.py",
        ("signed.is_by(delegation)\n", "True\n"),
        ("max(numbers, default=0) >= least.get(core.fingerprint, 1)", "True"),
        ("and signed.is_issued_by(delegation, core.certificate_pem)", ""),
        ("if named == agent_fingerprint", ""),
    )
    yield from instead(
        "agent/disks.py",
        f"{AGENT}/test_settings.py",
        ("        and not is_settings_disk(folder, dev_root)\n", ""),
    )
    yield from never(
        "agent/pairing.py",
        f"{AGENT}/test_pairing.py {AGENT}/test_command_line.py",
        "self.get_code() != code",
        "not is_long_enough(code)",
    )
    yield from instead(
        "agent/proof.py",
        f"{AGENT}/test_proof.py",
        ("side.value,", "b'',"),
        ("sha256(self.caller_certificate)", "sha256(b'')"),
        ("sha256(self.listener_certificate)", "sha256(b'')"),
        ("self.caller_nonce,", "b'',"),
        ("self.listener_nonce,", "b'',"),
    )
    yield from never(
        "agent/client/client.py",
        f"{AGENT}/test_strangers.py {AGENT}/test_lying_agent.py {AGENT}/test_pairing.py",
        'not exchange.is_proof(get_text(answer, "proof"), Side.AGENT, key)',
        "hold_seconds and not is_held",
        "certificate_der != self._certificate_der",
    )
    yield from never(
        "agent/client/receiving.py",
        f"{AGENT}/test_lying_agent.py {AGENT}/test_protocol.py",
        "disk.received_bytes > disk.limit_bytes",
        "first_grain < disk.next_digest_grain or first_grain + count > disk.grains",
        "length_bytes != disk.received_bytes",
        "has_parent and (parent is None or parent.capacity_bytes > capacity_bytes)",
    )
    yield from never(
        "agent/protocol.py",
        f"{AGENT}/test_protocol.py {AGENT}/test_lying_agent.py {AGENT}/test_hostile_restore.py",
        "length_bytes > limit_bytes",
        "_run_digest(first_grain, frame.payload[RUN_HEAD.size :]) != digest",
        "not 1 <= count <= MAX_RUN_GRAINS or len(frame.payload) < data_start",
    )
    yield from left_out(
        "agent/tls.py",
        f"{AGENT}/test_tls.py",
        "context.num_tickets = 0",
    )
    yield from left_out(
        "agent/state.py",
        f"{AGENT}/test_power_cut.py {AGENT}/test_state.py",
        "os.fsync(file.fileno())",
        "sync_path(self.folder)",
    )
    yield from instead(
        "agent/providers/hold.py",
        f"{AGENT}/test_hold.py {AGENT}/test_freeze.py",
        ("\n        lock_memory()", "\n        pass"),
        ("unlock_memory()", "pass"),
    )
    yield from instead(
        "agent/providers/device_mapper.py",
        f"{AGENT}/providers",
        (
            "mounts.freeze()\n            try:\n                _switch_frozen(control, layered)",
            "_switch_frozen(control, layered)\n            try:\n                mounts.freeze()",
        ),
        ("for entry in suspended:", "for entry in suspended[1:]:"),
        ("not kept.is_of(layered)", "False"),
        ("to_release += older", "pass"),
    )
    yield from left_out(
        "agent/providers/device_mapper.py",
        f"{AGENT}/providers",
        "hold.keep(mounts, watchdog)",
        "control.clear(entry.layer)",
        "release_cow(number, sys_root)",
    )
    yield from instead(
        "agent/providers/dm_control.py",
        f"{AGENT}/providers",
        ("_SUSPEND_FLAG | _SKIP_LOCKFS_FLAG", "_SUSPEND_FLAG"),
    )
    yield from never(
        "agent/providers/cow_memory.py",
        f"{AGENT}/providers",
        "available_bytes < _LEAST_BYTES * 2 or may_take_bytes < _LEAST_BYTES",
    )
    yield from left_out(
        "agent/providers/cow_memory.py",
        f"{AGENT}/providers",
        'self._write("mem_limit", limit_bytes)',
    )
    yield from never(
        "agent/protecting.py",
        f"{AGENT}/test_hold.py {AGENT}/test_watch.py",
        "not hold_seconds or owner.fingerprint != core.fingerprint",
        "watch.cids != {key: disk.cid for key, disk in parents.items()}",
        "not self._lock.acquire(blocking=False)",
    )
    yield from never(
        "agent/rescue/duty.py",
        f"{AGENT}/test_restore.py {AGENT}/test_hostile_restore.py {AGENT}/rescue",
        "undone",
        "start_bytes < disk.capacity_bytes",
        "not writer.submitted_grain <= first_grain <= total_grains - count",
    )


def _jobs() -> Iterator[Mutant]:
    yield from instead(
        "console/jobs/models.py",
        f"{JOBS}/test_engine.py {JOBS}/test_rescue.py",
        ("Q(lease_until__isnull=True) | Q(lease_until__lt=now),", ""),
        (
            "return bool(self.filter(id=job_id, lease_owner=owner)",
            "return bool(self.filter(id=job_id)",
        ),
        (
            "            self.filter(id=job_id, lease_owner=owner).update(",
            "            self.filter(id=job_id).update(",
        ),
    )
    yield from never(
        "console/jobs/journal.py",
        f"{JOBS}/test_engine.py",
        "self.owner is not None and job.lease_owner != self.owner",
        "must_be_next and job.last_event_number != self.history.last_number",
    )
    yield from never(
        "console/jobs/plan.py",
        PLAN,
        "event.number != history.last_number + 1",
        "step is None or after is None or history.is_held or not _is_in_turn(history, event)",
        "step.undo_failures >= UNDO_ATTEMPTS",
        "history.is_closed",
        "state not in (JobState.QUEUED, JobState.RUNNING) or history.is_past_return",
        "history.is_past_return",
    )
    yield from never(
        "console/jobs/plan.py",
        f"{JOBS}/test_engine.py",
        "step.lost_workers >= LOST_WORKERS_LIMIT",
    )
    yield from never(
        "console/jobs/acts.py",
        f"{JOBS}/test_engine.py",
        "not isinstance(params, workflow.params)",
    )
    yield from never(
        "console/jobs/rescue.py",
        f"{JOBS}/test_rescue.py",
        "job.lease_until is not None and job.lease_until >= now",
    )


def _machines() -> Iterator[Mutant]:
    yield from instead(
        "protected_machines/ownership.py",
        OWNERSHIP,
        ("pk=machine_id, ownership_epoch=expected_epoch)", "pk=machine_id)"),
        ("ownership_epoch=expected_epoch + 1,", "ownership_epoch=expected_epoch,"),
        ("Machine.objects.undisputed()\n        .filter(pk", "Machine.objects\n        .filter(pk"),
        ("contradicting = KINDS_OWNED_ELSEWHERE if is_here", "contradicting = () if is_here"),
    )
    yield from never(
        "protected_machines/ownership.py",
        OWNERSHIP,
        "trouble is Trouble.DISPUTED",
        "trouble is Trouble.CONTRADICTORY",
        "machine.is_disputed",
    )
    yield from never(
        "protected_machines/claims.py",
        "tests/protected_machines/test_claims.py",
        "claim.ownership_epoch > known.epoch + LARGEST_JUMP",
        "claim.ownership_epoch == known.epoch or not speaker.shares_machine",
        "claim.ownership_epoch < known.epoch",
    )
    yield from instead(
        "protected_machines/claims.py",
        "tests/protected_machines/test_claims.py",
        ("this_core_id if speaker.may_take_over else speaker.fellow_of", "this_core_id"),
        ("known.core_id == allowing and claim.owner", "claim.owner"),
        ("claim.owner_core_id in (this_core_id, speaker.fellow_of)", "True"),
    )
    yield from never(
        "protected_machines/settling.py",
        "tests/protected_machines/test_settling.py",
        "not won",
        "job is not None",
    )
    yield from instead(
        "protected_machines/points/policy.py",
        "tests/protected_machines/points/test_policy.py",
        ("if facts.is_paused or facts.has_open_job:", "if facts.is_paused:"),
        (
            "for point in reversed(candidates) if not point.is_damaged)",
            "for point in reversed(candidates))",
        ),
    )
    yield from never(
        "protected_machines/points/index.py",
        "tests/protected_machines/points/test_index.py",
        "manifest.machine_id != str(machine.pk)",
        "point.manifest_digest != manifest.digest",
    )
    yield from never(
        "protected_machines/exports/options.py",
        "tests/protected_machines/exports/test_vm_options.py",
        "not 1 <= cpus <= CPUS_LIMIT",
        "not 0 < name_length(name) <= NAME_LENGTH or not name.isprintable()",
    )
    yield from never(
        "protected_machines/restores/rescue_machines.py",
        "tests/protected_machines/restores/test_restore_dialog.py",
        "not paired.description.is_rescue",
    )
    yield from never(
        "protected_machines/agents/finding.py",
        "tests/protected_machines/exports/test_job_vm.py",
        "boot_id_before and description.boot_id == boot_id_before",
        "macs and expected_macs and macs.isdisjoint(expected_macs)",
    )
    yield from never(
        "protected_machines/agents/announcements.py",
        "tests/protected_machines/agents/test_announcements.py",
        "machine is None or not _is_agent_of(machine, certificate_der)",
        "any(earlier.boot_id == boot_id for earlier in kept)",
        "kept and is_within(kept[0].first_heard_at, SECONDS_BETWEEN_BOOTS, now)",
    )


def _cores() -> Iterator[Mutant]:
    yield from instead(
        "replication/api/gate.py",
        f"{CORES}/api/test_core_interface.py",
        (" and is_secret(secret, pairing.peer_secret_digest)", ""),
    )
    yield from never(
        "replication/peers/pairing_codes.py",
        f"{CORES}/peers/test_pairing_codes.py",
        "code is None or not code.count_try(asked.caller, timezone.now())",
        "not exchange.is_proof(asked.proof, Side.CALLING_CORE, key)",
    )
    yield from instead(
        "replication/models/pairing_codes.py",
        f"{CORES}/peers/test_pairing_codes.py",
        ("            wrong_tries__lt=MAX_WRONG_TRIES,\n", ""),
        ("            expires_at__gt=now,\n", ""),
        ('            used_by__in=("", caller),\n', ""),
    )
    yield from never(
        "replication/peers/pairing.py",
        f"{CORES}/peers/test_pairing.py",
        "not exchange.is_proof(answer.proof, Side.CALLED_CORE, key)",
        "not is_long_enough(code)",
    )
    yield from instead(
        "replication/peers/credentials.py",
        f"{CORES}/peers/test_credentials.py",
        ("hmac.compare_digest(digest_of(secret), digest)", "True"),
    )
    yield from instead(
        "console/accounts/access.py",
        "tests/console/test_access.py",
        ("role is not None and permission in GRANTS[role]", "role is not None"),
    )
    yield from instead(
        "console/accounts/middleware.py",
        "tests/test_roles.py",
        ("if refusal else None", "if False else None"),
    )
    yield from instead(
        "console/accounts/access.py",
        "tests/console/test_access.py",
        ("visible if user.is_authenticated else visible.none()", "visible"),
    )
    yield from instead(
        "console/settings.py",
        "tests/console/test_accounts.py",
        ("SESSION_COOKIE_HTTPONLY = True", "SESSION_COOKIE_HTTPONLY = False"),
        ("SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True", "CSRF_COOKIE_SECURE = True"),
    )
    yield from never(
        "replication/failover/policy.py",
        f"{CORES}/failover/test_policy.py",
        "machine.open_job_text",
        "not machine.has_agent_certificate",
        "point.trouble_text",
    )
    yield from never(
        "replication/failback/policy.py",
        f"{CORES}/failback/test_policy.py",
        'facts.kind != "failed_over" or not facts.is_owned_here',
        "not facts.is_agent_online",
        "not facts.has_points",
    )


def _workflows() -> Iterator[Mutant]:
    """Undos, and the comparisons of owner and epoch in failover and failback."""
    yield from never(
        "replication/failover/workflow.py",
        f"{CORES}/failover/test_failover_workflow.py",
        "not take(machine.pk, core, machine.ownership_epoch)",
        "not is_replica or machine.owner_core_id != pairing.peer_core_id",
        'names["first_point_id"] not in chain_ids',
    )
    yield from never(
        "replication/failback/end_workflow.py",
        f"{CORES}/failback/test_failback_end.py",
        "not take(machine.pk, this_core(), machine.ownership_epoch)",
        "machine.kind != MachineKind.FAILED_BACK",
    )
    yield from instead(
        "replication/failback/workflow.py",
        f"{CORES}/failback/test_failback_faults.py",
        ("if not machine.is_owned_here or not take(", "if False and not take("),
    )
    yield from never(
        "replication/failback/source_side.py",
        f"{CORES}/failback/test_failback_faults.py {CORES}/api/test_owners.py",
        "machine.is_disputed or not machine.is_owned_here or machine.ownership_epoch != epoch",
    )
    yield from never(
        "replication/transfer/receiving.py",
        f"{CORES}/api/test_owners.py",
        "str(machine.owner_core_id) != claim.owner_core_id",
        "judgement is Judgement.DISPUTED",
    )
    yield from instead(
        "replication/peers/claims.py",
        f"{CORES}/api/test_owners.py",
        ("may_take_over=shares_machine and pairing.is_outgoing", "may_take_over=shares_machine"),
        ("shares = machine.pk in shared_ids", "shares = True"),
    )
    yield from never(
        "replication/failover/destination.py",
        f"{CORES}/failover/test_failover_order.py",
        "value and value not in [known for known, _ in offered]",
    )
    yield from never(
        "replication/failover/start.py",
        f"{CORES}/failover/test_failover_order.py",
        "check.refusal",
        "known is not None",
    )
    yield from never(
        "replication/failback/start.py",
        f"{CORES}/failback/test_failback_order.py",
        "check.refusal",
    )


def _vsphere() -> Iterator[Mutant]:
    yield from never(
        "vsphere/machine.py",
        f"{VSPHERE}/test_machine.py",
        "self.marker != expected_marker",
        "has_marker and has_uuid",
        "len(found) > 1",
    )
    yield from never(
        "vsphere/properties.py",
        f"{VSPHERE}/test_real_servers.py",
        "not any(one.propSet for one in contents) and not is_signed_in(content)",
    )
    yield from never(
        "vsphere/vm_import.py",
        f"{VSPHERE}/test_import.py {VSPHERE}/test_import_faults.py",
        "sorted(disk.number for disk in disks) != sorted(disk.number for disk in spec.disks)",
        "not 0 < disk.length_bytes < MAX_STREAM_BYTES",
        "entry.size != sender.sent_bytes or (digest and digest != sender.sha1)",
        "by_slot.get(slot) != disk.capacity_bytes",
    )
    yield from never(
        "vsphere/placement.py",
        f"{VSPHERE}/test_placement.py",
        "free_bytes < data_bytes + space.swap_bytes",
        'plain_name(of.get("name", "")) == vm_name',
    )
    yield from instead(
        "vsphere/machine.py",
        f"{VSPHERE}/test_temporary_disk.py",
        (
            "if disk.slot and temporary_text(disk.slot, disk.capacity_bytes) == recorded",
            "if disk.slot",
        ),
    )
    yield from never(
        "vsphere/spec.py",
        f"{VSPHERE}/test_import.py",
        'spec.firmware not in ("bios", "efi")',
        "not 1 <= name_length(spec.name) <= MAX_NAME_LENGTH",
    )


MUTANTS = (*_store(), *_agent(), *_jobs(), *_machines(), *_cores(), *_workflows(), *_vsphere())
